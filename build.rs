//! proto/ -> Rust, its proto3 JSON form and the descriptor set that reflection serves. No protoc needed.
use prost::Message;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["envelope", "user_actions", "analytics", "fraud", "activity"]
        .map(|name| format!("proto/headwater/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let bytes = descriptors.encode_to_vec();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), &bytes)?;

    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .extern_path(".google.protobuf.Timestamp", "crate::Timestamp")
        .extern_path(".google.protobuf.Any", "::prost_types::Any")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(descriptors)?;
    pbjson_build::Builder::new()
        .register_descriptors(&bytes)?
        .ignore_unknown_fields()
        .extern_path(".google.protobuf", "crate")
        .exclude([".headwater.v1.RecordActionsResponse"]) // a stream's answer, never JSON
        .build(&[".headwater.v1"])?;
    Ok(())
}
