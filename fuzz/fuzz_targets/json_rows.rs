//! Rows of a data file in text: the first byte says whether it is JSON Lines, a JSON array or CSV.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, rows)) = bytes.split_first() else {
        return;
    };
    let name = ["rows.jsonl", "rows.json", "rows.csv"][kind as usize % 3];
    synapse_fuzz::prepare_rows(name, rows);
});
