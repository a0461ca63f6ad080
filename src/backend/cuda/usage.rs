//! What a compiled entry uses, read from the compiler's own log.

use super::architecture::Architecture;

/// Of one entry on one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Its name.
    pub entry: String,
    /// What it was compiled for.
    pub architecture: Architecture,
    /// A thread.
    pub registers: u32,
    /// Bytes that a thread stores because it ran out of registers.
    pub spill_stores: u32,
    /// Bytes that a thread loads again.
    pub spill_loads: u32,
    /// Bytes of a thread's stack.
    pub stack: u32,
    /// Bytes of shared memory that the entry itself declares, besides what its launch asks for.
    pub shared_bytes: u32,
}

/// From the log of `--ptxas-options=-v`. An entry's lines are
/// `Compiling entry function 'NAME' for 'sm_..'`, `.. bytes stack frame, .. bytes spill stores, .. bytes spill loads`, and
/// `Used .. registers, ..`.
pub fn read(log: &str, architecture: Architecture) -> Vec<Usage> {
    let mut usages: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("entry function '") {
            let entry = rest.split('\'').next().unwrap_or_default().to_owned();
            usages.push(Usage {
                entry,
                architecture,
                registers: 0,
                spill_stores: 0,
                spill_loads: 0,
                stack: 0,
                shared_bytes: 0,
            });
        }
        let Some(usage) = usages.last_mut() else {
            continue;
        };
        for (what, field) in [
            (" bytes stack frame", &mut usage.stack),
            (" bytes spill stores", &mut usage.spill_stores),
            (" bytes spill loads", &mut usage.spill_loads),
            (" registers", &mut usage.registers),
            (" bytes smem", &mut usage.shared_bytes),
        ] {
            if let Some(number) = number_before(line, what) {
                *field = number;
            }
        }
    }
    usages
}

fn number_before(line: &str, what: &str) -> Option<u32> {
    let (before, _) = line.split_once(what)?;
    let start = before
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |i| i + 1);
    before[start..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_two_entries_is_read() {
        let log = "ptxas info    : 0 bytes gmem\n\
                   ptxas info    : Compiling entry function 'a_f16' for 'sm_90a'\n\
                   ptxas info    : Function properties for a_f16\n    \
                   16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n\
                   ptxas info    : Used 168 registers, used 1 barriers, 32 bytes smem\n\
                   ptxas info    : Compiling entry function 'b_f16' for 'sm_90a'\n\
                   ptxas info    : Used 40 registers, 400 bytes cmem[0]\n";
        let architecture = "90a".parse().unwrap();
        let usages = read(log, architecture);
        let a = &usages[0];
        assert_eq!(a.entry, "a_f16");
        assert_eq!((a.registers, a.stack, a.shared_bytes), (168, 16, 32));
        assert_eq!((a.spill_stores, a.spill_loads), (8, 12));
        assert_eq!(
            (usages[1].entry.as_str(), usages[1].registers),
            ("b_f16", 40)
        );
        assert_eq!(usages.len(), 2);
    }
}
