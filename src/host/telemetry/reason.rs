//! Why a GPU's clocks are lower than they could be: one bit of NVML's mask, one name.
//!
//! The names are those of NVIDIA's own tools (nvidia-smi, DCGM), so that what is printed here can be looked up there.

use std::fmt;

use serde::{Serialize, Serializer};

/// One of NVML's clock-event reasons, once called throttle reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing runs.
    Idle,
    /// Someone set the application clocks below the maximum.
    ApplicationClocks,
    /// The driver keeps the board within its power limit: what a busy GPU is meant to do.
    SoftwarePowerCap,
    /// The hardware at least halves the clocks: heat, an external power brake, or a sudden draw of power.
    HardwareSlowdown,
    /// Another GPU of its sync boost group holds this one back.
    SyncBoost,
    /// The driver lowers the clocks: the die or the memory is above its highest operating temperature.
    SoftwareThermal,
    /// The hardware at least halves the clocks: the die is too hot.
    HardwareThermal,
    /// The hardware at least halves the clocks: the server's power supply asked for it.
    PowerBrake,
    /// The clocks of an attached display.
    DisplayClocks,
    /// A bit that has no name here: its position in the mask.
    Unnamed(u8),
}

/// In the order of their bits.
const NAMED: [(u64, Reason, &str); 9] = [
    (0x1, Reason::Idle, "gpu_idle"),
    (
        0x2,
        Reason::ApplicationClocks,
        "applications_clocks_setting",
    ),
    (0x4, Reason::SoftwarePowerCap, "sw_power_cap"),
    (0x8, Reason::HardwareSlowdown, "hw_slowdown"),
    (0x10, Reason::SyncBoost, "sync_boost"),
    (0x20, Reason::SoftwareThermal, "sw_thermal_slowdown"),
    (0x40, Reason::HardwareThermal, "hw_thermal_slowdown"),
    (0x80, Reason::PowerBrake, "hw_power_brake_slowdown"),
    (0x100, Reason::DisplayClocks, "display_clock_setting"),
];

impl Reason {
    fn of_bit(position: u8) -> Reason {
        let named = NAMED.iter().find(|(bit, ..)| *bit == 1 << position);
        named.map_or(Reason::Unnamed(position), |&(_, reason, _)| reason)
    }

    fn bit(self) -> u64 {
        match self {
            Reason::Unnamed(position) => 1 << position,
            named => NAMED
                .iter()
                .find(|(_, reason, _)| *reason == named)
                .map_or(0, |&(bit, ..)| bit),
        }
    }

    /// Heat.
    pub fn is_thermal(self) -> bool {
        matches!(self, Reason::SoftwareThermal | Reason::HardwareThermal)
    }

    /// Something that is wrong, and not a choice or a limit that was set. `hw_slowdown` is the umbrella over
    /// `hw_thermal_slowdown` and `hw_power_brake_slowdown`; alone it means a sudden draw of power.
    pub fn is_fault(self) -> bool {
        self.is_thermal() || matches!(self, Reason::HardwareSlowdown | Reason::PowerBrake)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Unnamed(position) => write!(f, "unnamed_{:#x}", 1u64 << position),
            named => {
                let name = NAMED.iter().find(|(_, reason, _)| reason == named);
                f.write_str(name.map_or("", |&(.., name)| name))
            }
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// NVML's mask: several reasons can hold at once, and none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(pub u64);

impl Reasons {
    /// In the order of their bits.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        (0..64)
            .filter(move |p| self.0 & (1 << p) != 0)
            .map(Reason::of_bit)
    }

    /// Whether this one holds.
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// Whether one holds that is a fault.
    pub fn is_fault(self) -> bool {
        self.iter().any(Reason::is_fault)
    }
}

impl FromIterator<Reason> for Reasons {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        Reasons(
            reasons
                .into_iter()
                .fold(0, |mask, reason| mask | reason.bit()),
        )
    }
}

impl Serialize for Reasons {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_has_one_name_and_comes_back_from_it() {
        let all: Vec<Reason> = Reasons(u64::MAX).iter().collect();
        assert_eq!(all.len(), 64);
        let names: std::collections::HashSet<String> = all.iter().map(|r| r.to_string()).collect();
        assert_eq!(names.len(), 64);
        assert_eq!(all.into_iter().collect::<Reasons>(), Reasons(u64::MAX));
    }

    #[test]
    fn a_bit_that_drivers_add_later_keeps_its_number() {
        let reasons: Vec<String> = Reasons(0x40 | 0x800)
            .iter()
            .map(|r| r.to_string())
            .collect();
        assert_eq!(reasons, ["hw_thermal_slowdown", "unnamed_0x800"]);
    }

    #[test]
    fn idle_limits_that_were_set_and_power_capping_are_no_faults() {
        let faults: Vec<Reason> = Reasons(u64::MAX).iter().filter(|r| r.is_fault()).collect();
        assert_eq!(
            faults,
            [
                Reason::HardwareSlowdown,
                Reason::SoftwareThermal,
                Reason::HardwareThermal,
                Reason::PowerBrake
            ]
        );
    }
}
