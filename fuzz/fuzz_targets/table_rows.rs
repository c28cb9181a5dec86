//! Rows of a data file in binary: Parquet by its magic bytes, Arrow otherwise.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let name = if bytes.starts_with(b"PAR1") { "rows.parquet" } else { "rows.arrow" };
    synapse_fuzz::prepare_rows(name, bytes);
});
