//! How much memory devices have.

use std::process::{Command, Stdio};

use serde::Serialize;

/// Memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// In all.
    pub total_bytes: u64,
    /// Not in use now.
    pub free_bytes: u64,
}

/// The machine's own memory: what Linux calls available, or what is left of the control group's
/// limit where that is less. Nothing on other systems.
pub(super) fn of_machine() -> Option<Memory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = parse_meminfo(&text)?;
    let number = |name| {
        let text = std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    match (number("memory.max"), number("memory.current")) {
        (Some(limit), Some(used)) if limit < machine.total_bytes => Some(Memory {
            total_bytes: limit,
            free_bytes: machine.free_bytes.min(limit.saturating_sub(used)),
        }),
        _ => Some(machine),
    }
}

fn parse_meminfo(text: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory {
        total_bytes: bytes("MemTotal:")?,
        free_bytes: bytes("MemAvailable:")?,
    })
}

/// Memory of the NVIDIA GPUs, in the order of their numbers, as the driver's own tool says; empty
/// without it.
pub(super) fn of_nvidia() -> Vec<Memory> {
    let output = Command::new("nvidia-smi")
        .args([
            "--query-gpu=memory.total,memory.free",
            "--format=csv,noheader,nounits",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            parse_nvidia(&String::from_utf8_lossy(&output.stdout))
        }
        _ => Vec::new(),
    }
}

/// Lines of `TOTAL, FREE` in MiB.
fn parse_nvidia(text: &str) -> Vec<Memory> {
    let mib = |text: &str| Some(text.trim().parse::<u64>().ok()? << 20);
    let line = |line: &str| {
        let (total, free) = line.split_once(',')?;
        Some(Memory {
            total_bytes: mib(total)?,
            free_bytes: mib(free)?,
        })
    };
    text.lines().map_while(line).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_is_read() {
        let text =
            "MemTotal:       24576 kB\nMemFree:  1 kB\nMemAvailable:   1024 kB\nBuffers: 5 kB\n";
        let memory = parse_meminfo(text).unwrap();
        assert_eq!((memory.total_bytes, memory.free_bytes), (24 << 20, 1 << 20));
        assert_eq!(parse_meminfo("MemTotal: x kB"), None);
    }

    #[test]
    fn what_the_nvidia_driver_says_is_read() {
        let memory = parse_nvidia("143771, 143157\n81559, 12\n");
        assert_eq!(memory.len(), 2);
        assert_eq!(memory[1].free_bytes, 12 << 20);
        assert!(parse_nvidia("[N/A], [N/A]\n").is_empty());
    }
}
