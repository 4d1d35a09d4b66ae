//! Generates the gRPC types from `proto/`, without a `protoc` on the machine: protox is the compiler.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let files = ["browserfleet/v1/pool.proto", "browserfleet/v1/browser.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let descriptors = protox::compile(files, [&root])?;
    // Reflection serves the same descriptors.
    let encoded = tonic_prost_build::Config::new();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("browserfleet.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().compile_fds_with_config(descriptors, encoded)?;
    Ok(())
}
