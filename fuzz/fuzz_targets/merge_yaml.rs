//! A merge in mergekit's YAML, with or without our block.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use synapse_merge::MergeFile;

fuzz_target!(|text: &str| {
    let _ = MergeFile::parse(text, Path::new("merge.yaml"));
});
