"""The pinned envelope of proto/golden: its bytes and its JSON are the same event here too."""

import unittest
from pathlib import Path

from google.protobuf import json_format

from headwater.v1.envelope_pb2 import EventEnvelope

GOLDEN = Path(__file__).parents[2] / "proto" / "golden"


class Golden(unittest.TestCase):
    def test_bytes_and_json_are_one_event(self) -> None:
        lines = (GOLDEN / "envelope.hex").read_text().splitlines()
        wire = bytes.fromhex("".join(line.partition("#")[0] for line in lines))
        from_json = json_format.Parse((GOLDEN / "envelope.json").read_text(), EventEnvelope())
        self.assertEqual(EventEnvelope.FromString(wire), from_json)
        self.assertEqual(from_json.SerializeToString(), wire)


if __name__ == "__main__":
    unittest.main()
