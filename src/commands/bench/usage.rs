//! What a process has used, as Linux counts it.

use anyhow::Context as _;

/// Processor time and memory of a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Time on processors, in user and kernel mode, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Largest resident set so far, in bytes.
    pub(crate) peak_rss_bytes: u64,
    /// Resident set now, in bytes.
    pub(crate) rss_bytes: u64,
}

impl Usage {
    /// Reads the counters of a running process.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {path}: this benchmark needs Linux"))
        };
        let ticks = cpu_ticks(&read("stat")?).context("/proc has an unknown form of `stat`")?;
        let status = read("status")?;
        let kib = |field| kib_of(&status, field).context("/proc has an unknown form of `status`");
        Ok(Self {
            cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            peak_rss_bytes: kib("VmHWM:")? << 10,
            rss_bytes: kib("VmRSS:")? << 10,
        })
    }
}

/// utime + stime; the process's name before them may hold anything but a last parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn kib_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(
            kib_of("VmPeak:\t9 kB\nVmHWM:\t  512 kB\n", "VmHWM:"),
            Some(512)
        );
        assert_eq!(kib_of("VmPeak:\t9 kB\n", "VmHWM:"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 1 << 20);
        assert!(usage.peak_rss_bytes >= usage.rss_bytes);
    }
}
