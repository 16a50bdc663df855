package main

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "headwater.dev/client/gen/headwater/v1"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// The pinned envelope of proto/golden: its bytes and its JSON are the same event here too.
func TestBytesAndJSONAreOneEvent(t *testing.T) {
	digits := regexp.MustCompile(`#.*|\s`).ReplaceAll(read(t, "../../proto/golden/envelope.hex"), nil)
	wire, err := hex.DecodeString(string(digits))
	if err != nil {
		t.Fatal(err)
	}
	var fromWire, fromJSON pb.EventEnvelope
	if err := proto.Unmarshal(wire, &fromWire); err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(read(t, "../../proto/golden/envelope.json"), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(&fromWire, &fromJSON) {
		t.Errorf("bytes say %v\nJSON says %v", &fromWire, &fromJSON)
	}
	if written, err := proto.Marshal(&fromJSON); err != nil || !bytes.Equal(written, wire) {
		t.Errorf("written as %x (%v), not as %x", written, err, wire)
	}
}
