package dev.headwater.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.util.JsonFormat;
import dev.headwater.v1.EventEnvelope;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import org.junit.jupiter.api.Test;

/** The pinned envelope of proto/golden: its bytes and its JSON are the same event here too. */
class GoldenTest {
  // Maven runs tests in the folder of pom.xml
  private static final Path GOLDEN = Path.of("../../proto/golden");

  @Test
  void bytesAndJsonAreOneEvent() throws Exception {
    var digits = Files.readString(GOLDEN.resolve("envelope.hex")).replaceAll("#.*|\\s", "");
    var wire = HexFormat.of().parseHex(digits);
    var fromJson = EventEnvelope.newBuilder();
    JsonFormat.parser().merge(Files.readString(GOLDEN.resolve("envelope.json")), fromJson);
    assertEquals(EventEnvelope.parseFrom(wire), fromJson.build());
    assertArrayEquals(wire, fromJson.build().toByteArray());
  }
}
