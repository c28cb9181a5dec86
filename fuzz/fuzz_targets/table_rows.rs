//! Rows of a data file in binary: Parquet by its magic bytes, Arrow otherwise.
#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;

/// The reader of Arrow files catches the panics of arrow-ipc, which the fuzzer's hook would make fatal before they unwind. A panic
/// that nobody catches still ends the fuzzer.
static QUIET: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let name = if bytes.starts_with(b"PAR1") { "rows.parquet" } else { "rows.arrow" };
    synapse_fuzz::prepare_rows(name, bytes);
});
