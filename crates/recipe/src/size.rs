//! Byte sizes as people write them: `5GB`, `512 MiB`, `1000000`.

/// Bytes in a text such as `5GB` (decimal) or `5GiB` (binary); `None` if it is not a positive size.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn decimal_and_binary_units() {
        assert_eq!(parse_bytes("5GB"), Some(5_000_000_000));
        assert_eq!(parse_bytes("512 MiB"), Some(512 << 20));
        assert_eq!(parse_bytes("12345"), Some(12345));
        for bad in [
            "",
            "GB",
            "0GB",
            "-5GB",
            "5 apples",
            "99999999999999999999",
            "18446744073709551615GB",
        ] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
