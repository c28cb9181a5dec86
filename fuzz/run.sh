#!/usr/bin/env bash
# Runs fuzz targets (all, or those named) for so many minutes each, one after the other, and prints what came of them.
#   fuzz/run.sh MINUTES [TARGET...]
# Seeds are the fixtures of the tests. SANITIZER=address slows everything down and watches the kernels' memory.
set -uo pipefail
cd "$(dirname "$0")/.."
minutes=${1:?usage: fuzz/run.sh MINUTES [TARGET...]}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz/fuzz_targets/*.rs)

# Copies files into a target's corpus under their hash, a first byte before each if one is given.
seed() {
  local corpus=fuzz/corpus/$1 first=$2 file
  mkdir -p "$corpus"
  shift 2
  for file in "$@"; do
    [ -f "$file" ] && [ "$(stat -c %s "$file")" -lt 200000 ] || continue
    { printf "%b" "$first"; cat "$file"; } > "$corpus/$(sha256sum "$file" | cut -c1-16)"
  done
}

seed recipe "" recipes/*.yaml recipes/*/*.yaml pipelines/*.yaml data/registry.yaml
seed merge_yaml "" crates/merge/tests/*/*.y*ml tests/merge/*.y*ml fuzz/seeds/merge_yaml/*
find crates -name '*.safetensors' | while read -r file; do seed safetensors "" "$file"; done
find crates -name '*.gguf' | while read -r file; do seed gguf "" "$file"; done
find crates -name adapter_config.json | while read -r file; do seed adapter_config "" "$file"; done
seed json_rows '\x00' data/nano/held-out/*.jsonl fuzz/seeds/json_rows/*.jsonl
seed json_rows '\x01' fuzz/seeds/json_rows/*.json
seed json_rows '\x02' fuzz/seeds/json_rows/*.csv
find crates data -name '*.parquet' -o -name '*.arrow' | while read -r file; do seed table_rows "" "$file"; done
seed chat_template "" crates/tokenizer/tests/fixtures/templates/* data/nano/base/chat_template.jinja
for kind in 0 1 2 3 4 5; do seed http_body "\\x0$kind" fuzz/seeds/http_body/"$kind"-*.json; done
seed schema "" fuzz/seeds/schema/*.json

for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target"
  log=fuzz/corpus/$target.log
  # parquet panics on text that is not UTF-8 where debug assertions are on, and leaves it to its readers where they are not
  flags=()
  [ "$target" != table_rows ] || flags=(-O)
  # built for this machine's stable toolchain: without a sanitizer cargo-fuzz needs no nightly one
  cargo fuzz run --fuzz-dir fuzz "${flags[@]}" --sanitizer "${SANITIZER:-none}" "$target" -- \
    -max_total_time=$((minutes * 60)) -timeout=20 -rss_limit_mb=4096 -max_len=65536 -print_final_stats=1 > "$log" 2>&1
  code=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  covered=$(grep -o 'cov: [0-9]*' "$log" | tail -1)
  found=$(grep -m1 -E "panicked at|ERROR: libFuzzer|assertion" "$log" || true)
  echo "$target: $minutes min, ${executions:-0} executions, ${covered:-cov: 0}, exit code $code${found:+: $found}"
done
