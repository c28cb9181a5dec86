//! How much memory this process uses and how much the machine still has, where the system reports it (Linux).

/// Peak resident memory of this process (`VmHWM`), or `None` if the system does not report it.
pub fn peak_resident_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Resident memory of this process (`VmRSS`), or `None` if the system does not report it.
pub fn resident_bytes() -> Option<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// Memory that programs can still allocate (`MemAvailable`), or `None` if the system does not report it.
pub fn available_bytes() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

/// A line of the form `name   1234 kB`, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
