//! Xid events: the driver's error numbers, by what they mean for whoever runs work on the GPU.
//!
//! Names and meanings follow NVIDIA's catalogue of Xid errors. Which of them are the application's own doing, and say
//! nothing of the GPU, follows the default of NVIDIA's driver for Kubernetes (k8s-dra-driver-gpu), which goes on trusting a GPU after 13, 31, 43, 45,
//! 68 and 109.

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// An error that the driver reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Xid(pub u64);

/// Code, what it is, whose doing.
const KNOWN: [(u64, &str, Blame); 22] = [
    (13, "graphics engine exception", Blame::Application),
    (31, "memory page fault", Blame::Application),
    (43, "GPU stopped processing", Blame::Application),
    (45, "preemptive cleanup", Blame::Application),
    (48, "double bit ECC error", Blame::Gpu),
    (61, "internal microcontroller breakpoint", Blame::Gpu),
    (62, "internal microcontroller halt", Blame::Gpu),
    (
        63,
        "row remapping or page retirement recorded",
        Blame::Notice,
    ),
    (64, "row remapping or page retirement failed", Blame::Gpu),
    (68, "video processor exception", Blame::Application),
    (69, "graphics engine class error", Blame::Gpu),
    (74, "NVLink error", Blame::Gpu),
    (79, "GPU has fallen off the bus", Blame::Gpu),
    (92, "high single-bit ECC error rate", Blame::Notice),
    (94, "contained memory error", Blame::Gpu),
    (95, "uncontained memory error", Blame::Gpu),
    (109, "context switch timeout", Blame::Application),
    (119, "GPU system processor timeout", Blame::Gpu),
    (120, "GPU system processor error", Blame::Gpu),
    (122, "InfoROM communication error", Blame::Notice),
    (140, "unrecovered ECC error", Blame::Gpu),
    (154, "recovery action changed", Blame::Notice),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blame {
    Application,
    Notice,
    Gpu,
}

impl Xid {
    fn known(self) -> Option<&'static (u64, &'static str, Blame)> {
        KNOWN.iter().find(|(code, ..)| *code == self.0)
    }

    /// NVIDIA's words for it.
    pub fn name(self) -> &'static str {
        self.known()
            .map_or("not in the list of collage", |&(_, name, _)| name)
    }

    /// Whether the GPU cannot be trusted after it. NVML reports critical Xids only, so an unknown one counts.
    pub fn is_fatal(self) -> bool {
        self.known().is_none_or(|&(.., blame)| blame == Blame::Gpu)
    }
}

impl Serialize for Xid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Xid", 3)?;
        out.serialize_field("code", &self.0)?;
        out.serialize_field("name", self.name())?;
        out.serialize_field("fatal", &self.is_fatal())?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_application_did_wrong_is_not_held_against_its_gpu() {
        let trusted = [13, 31, 43, 45, 68, 109];
        assert!(trusted.iter().all(|&code| !Xid(code).is_fatal()));
        let fatal = [48, 64, 74, 79, 95, 999];
        assert!(fatal.iter().all(|&code| Xid(code).is_fatal()));
    }

    #[test]
    fn each_code_is_listed_once() {
        assert!(KNOWN.is_sorted_by(|a, b| a.0 < b.0));
    }
}
