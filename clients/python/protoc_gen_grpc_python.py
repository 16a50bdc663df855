"""The service half of grpcio-tools as a plugin of buf's: there it is only a flag of its own protoc."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
with TemporaryDirectory() as folder:
    descriptors, out = Path(folder, "descriptors.bin"), Path(folder, "out")
    descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
    out.mkdir()
    flags = [f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}"]
    if status := protoc.main(["protoc", *flags, *request.file_to_generate]):
        sys.exit(status)
    response = CodeGeneratorResponse(
        file=[
            CodeGeneratorResponse.File(name=str(path.relative_to(out)), content=path.read_text())
            for path in sorted(out.rglob("*.py"))
        ]
    )
sys.stdout.buffer.write(response.SerializeToString())
