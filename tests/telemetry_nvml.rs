//! From the driver to the verdict: the stub library (tests/nvml_stub) is loaded by path through the real wrapper.
#![cfg(all(feature = "nvml", target_os = "linux"))]

use collage::error::Classify;
use collage::host::telemetry::{
    Absent, Cause, Confidence, History, Link, Pattern, Reading, Reason, Source, State, Unavailable,
    Verdict, Window, Xid,
};

mod nvml_stub;

use nvml_stub::{Stub, abi};

/// What one GPU did, by readings a tenth of a second apart.
struct Watched {
    window: Window,
    verdict: Verdict,
    latest: Reading,
}

/// Every GPU of a scenario. The readings come as fast as they can, by a clock of the test's own.
fn watch(scenario: &str, readings: usize) -> Vec<Watched> {
    watch_as(scenario, readings, &[])
}

fn watch_as(scenario: &str, readings: usize, own: &[u32]) -> Vec<Watched> {
    let stub = Stub::new(scenario);
    let mut source = Source::open(Some(&stub.library())).expect("the stub is NVML");
    let gpus = source.gpus().to_vec();
    let mut histories: Vec<History> = gpus
        .into_iter()
        .map(|gpu| History::new(gpu, u64::MAX))
        .collect();
    for n in 0..readings as u64 {
        for (history, reading) in histories.iter_mut().zip(source.read_at(n * 100_000)) {
            history.push(reading);
        }
    }
    let judged = histories.iter().map(|history| {
        let window = history.window();
        let latest = history.latest().expect("there was a reading").clone();
        let verdict = Verdict::of_gpu(history.gpu(), &window, Some(&latest), own);
        Watched {
            window,
            verdict,
            latest,
        }
    });
    judged.collect()
}

fn watch_one(scenario: &str, readings: usize) -> Watched {
    let mut all = watch(scenario, readings);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// That a sentence with all of these is among them.
fn says(sentences: &[String], words: &[&str]) -> bool {
    sentences
        .iter()
        .any(|sentence| words.iter().all(|word| sentence.contains(word)))
}

macro_rules! same_layout {
    ($ours:ty, $theirs:ty, $($our_field:ident = $their_field:ident),+) => {
        assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));
        assert_eq!(align_of::<$ours>(), align_of::<$theirs>(), stringify!($ours));
        $(assert_eq!(
            std::mem::offset_of!($ours, $our_field),
            std::mem::offset_of!($theirs, $their_field),
            concat!(stringify!($ours), ".", stringify!($our_field))
        );)+
    };
}

#[test]
fn the_stub_lays_structures_out_as_the_wrappers_bindings_do() {
    use nvml_wrapper_sys::bindings as sys;
    same_layout!(
        abi::PciInfo,
        sys::nvmlPciInfo_t,
        domain = domain,
        bus = bus,
        device = device,
        bus_id = busId
    );
    same_layout!(
        abi::Utilization,
        sys::nvmlUtilization_t,
        gpu = gpu,
        memory = memory
    );
    same_layout!(
        abi::MemoryV2,
        sys::nvmlMemory_v2_t,
        version = version,
        total = total,
        free = free,
        used = used
    );
    same_layout!(
        abi::ProcessInfo,
        sys::nvmlProcessInfo_t,
        pid = pid,
        used_gpu_memory = usedGpuMemory,
        gpu_instance_id = gpuInstanceId
    );
    same_layout!(
        abi::ProcessUtilizationSample,
        sys::nvmlProcessUtilizationSample_t,
        pid = pid,
        time_stamp = timeStamp,
        sm_util = smUtil
    );
    same_layout!(
        abi::FieldValue,
        sys::nvmlFieldValue_t,
        field_id = fieldId,
        value_type = valueType,
        nvml_return = nvmlReturn,
        value = value
    );
    same_layout!(
        abi::ViolationTime,
        sys::nvmlViolationTime_t,
        violation_time = violationTime
    );
    same_layout!(
        abi::EventData,
        sys::nvmlEventData_t,
        device = device,
        event_type = eventType,
        event_data = eventData
    );
}

#[test]
fn the_stubs_numbers_are_the_wrappers() {
    use nvml_wrapper_sys::bindings as sys;
    use sys::field_id as fields;
    let pairs = [
        (
            abi::NOT_SUPPORTED,
            sys::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED,
        ),
        (
            abi::NO_PERMISSION,
            sys::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION,
        ),
        (abi::NOT_FOUND, sys::nvmlReturn_enum_NVML_ERROR_NOT_FOUND),
        (
            abi::INSUFFICIENT_SIZE,
            sys::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE,
        ),
        (
            abi::DRIVER_NOT_LOADED,
            sys::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED,
        ),
        (abi::TIMEOUT, sys::nvmlReturn_enum_NVML_ERROR_TIMEOUT),
        (
            abi::GPU_IS_LOST,
            sys::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST,
        ),
        (
            abi::RESET_REQUIRED,
            sys::nvmlReturn_enum_NVML_ERROR_RESET_REQUIRED,
        ),
        (
            abi::LIB_RM_VERSION_MISMATCH,
            sys::nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        ),
        (abi::CLOCK_SM, sys::nvmlClockType_enum_NVML_CLOCK_SM),
        (abi::CLOCK_MEM, sys::nvmlClockType_enum_NVML_CLOCK_MEM),
        (abi::EVENT_XID as u32, sys::nvmlEventTypeXidCriticalError),
        (
            abi::FIELD_REMAPPED_CORRECTED,
            fields::NVML_FI_DEV_REMAPPED_COR,
        ),
        (
            abi::FIELD_REMAPPED_UNCORRECTED,
            fields::NVML_FI_DEV_REMAPPED_UNC,
        ),
        (
            abi::FIELD_REMAPPED_PENDING,
            fields::NVML_FI_DEV_REMAPPED_PENDING,
        ),
        (
            abi::FIELD_REMAPPED_FAILURE,
            fields::NVML_FI_DEV_REMAPPED_FAILURE,
        ),
        (
            abi::FIELD_PCIE_TX_BYTES,
            fields::NVML_FI_DEV_PCIE_COUNT_TX_BYTES,
        ),
        (
            abi::FIELD_PCIE_RX_BYTES,
            fields::NVML_FI_DEV_PCIE_COUNT_RX_BYTES,
        ),
    ];
    assert!(
        pairs.iter().all(|(ours, theirs)| ours == theirs),
        "{pairs:?}"
    );
}

#[test]
fn each_figure_arrives_in_its_own_field() {
    let stub = Stub::new(
        "driver 999.1
         gpu NVIDIA Test GPU
         sm_clock 1101\n sm_clock_max 1102\n memory_clock 1103\n memory_clock_max 1104
         reasons sw_power_cap+sync_boost\n utilisation 61\n memory_utilisation 62
         temperature 63\n slowdown 64\n shutdown 65\n power 66000\n power_limit 67000
         memory_used 68\n memory_total 69\n ecc_volatile_corrected 70\n ecc_volatile_uncorrected 71
         ecc_aggregate_corrected 72\n ecc_aggregate_uncorrected 73\n retired_pages 74\n retirement_pending 1
         rows_corrected 76\n rows_uncorrected 77\n rows_pending 1\n rows_failed 0
         link_generation 2\n link_generation_max 3\n link_width 4\n link_width_max 8\n pcie_replays 79
         pcie_tx_bytes 80\n pcie_rx_bytes 81\n power_violation_ns 82\n thermal_violation_ns 83
         process 84 85 86\n xid 13\n mig 0\n ecc 1",
    );
    let mut source = Source::open(Some(&stub.library())).expect("the stub is NVML");
    assert_eq!(source.driver(), "999.1");
    let gpu = source.gpus()[0].clone();
    assert_eq!(gpu.name, "NVIDIA Test GPU");
    assert_eq!(gpu.pci_bus_id.as_deref(), Some("0000:01:00.0"));
    assert!(
        gpu.uuid
            .as_deref()
            .is_some_and(|uuid| uuid.starts_with("GPU-"))
    );
    assert_eq!(
        [
            gpu.sm_clock_max_mhz,
            gpu.memory_clock_max_mhz,
            gpu.slowdown_c,
            gpu.shutdown_c
        ],
        [Some(1102), Some(1104), Some(64), Some(65)]
    );
    assert_eq!(gpu.memory_total_bytes, Some(69));
    assert_eq!(
        gpu.link_max,
        Link {
            generation: Some(3),
            width: Some(8)
        }
    );
    assert_eq!(
        (gpu.ecc, gpu.mig, gpu.missing.len()),
        (Some(true), Some(false), 0)
    );
    let reading = source.read().remove(0);
    assert_eq!(
        [
            reading.sm_clock_mhz,
            reading.memory_clock_mhz,
            reading.temperature_c
        ],
        [Some(1101), Some(1103), Some(63)]
    );
    let reasons: Vec<Reason> = reading.reasons.expect("told").iter().collect();
    assert_eq!(reasons, [Reason::SoftwarePowerCap, Reason::SyncBoost]);
    assert_eq!(
        [
            reading.utilisation,
            reading.memory_utilisation,
            reading.power_w,
            reading.power_limit_w
        ],
        [Some(0.61), Some(0.62), Some(66.0), Some(67.0)]
    );
    let counts = [
        reading.memory_used_bytes,
        reading.ecc.volatile_corrected,
        reading.ecc.volatile_uncorrected,
        reading.ecc.aggregate_corrected,
        reading.ecc.aggregate_uncorrected,
        reading.retired_pages,
        reading.rows.corrected,
        reading.rows.uncorrected,
        reading.pcie_replays,
        reading.pcie_tx_bytes,
        reading.pcie_rx_bytes,
        reading.power_violation_ns,
        reading.thermal_violation_ns,
    ];
    let expected = [68, 70, 71, 72, 73, 74, 76, 77, 79, 80, 81, 82, 83];
    assert_eq!(counts, expected.map(Some));
    let flags = [
        reading.retirement_pending,
        reading.rows.pending,
        reading.rows.failed,
    ];
    assert_eq!(flags, [Some(true), Some(true), Some(false)]);
    assert_eq!(
        reading.link,
        Link {
            generation: Some(2),
            width: Some(4)
        }
    );
    assert_eq!(reading.xids, [Xid(13)]);
    let processes = reading.processes.expect("told");
    let [process] = processes[..] else {
        panic!("{processes:?}")
    };
    assert_eq!(
        (process.pid, process.memory_bytes, process.utilisation),
        (84, Some(85), Some(0.86))
    );
    assert_eq!((reading.state, reading.missing), (State::Answers, vec![]));
}

#[test]
fn heat_that_rises_until_the_hardware_slows_down_is_thermal() {
    let hot = watch_one(
        "gpu H100\n temperature 60 ~20 88
         reasons none @20 hw_slowdown+hw_thermal_slowdown\n sm_clock 1980 @20 990",
        40,
    );
    assert_eq!(hot.verdict.cause, Cause::Thermal, "{:?}", hot.verdict);
    assert_eq!(hot.verdict.confidence, Confidence::Certain);
    let evidence = &hot.verdict.evidence;
    assert!(
        says(evidence, &["hw_thermal_slowdown", "50%"]),
        "{evidence:?}"
    );
    assert!(says(evidence, &["990 of 1980 MHz", "50%"]), "{evidence:?}");
    assert!(says(evidence, &["88 °C", "87 °C"]), "{evidence:?}");
    assert_eq!(hot.window.slowed(), Some(0.5));
}

#[test]
fn a_power_brake_is_power_and_so_is_a_hardware_slowdown_without_heat() {
    let braked = watch_one(
        "gpu H100\n reasons hw_slowdown+hw_power_brake_slowdown\n sm_clock 600",
        10,
    );
    assert_eq!(braked.verdict.cause, Cause::Power);
    assert_eq!(braked.verdict.confidence, Confidence::Certain);
    let drawn = watch_one("gpu H100\n reasons hw_slowdown\n sm_clock 900", 10);
    assert_eq!(drawn.verdict.cause, Cause::Power);
    assert_eq!(drawn.verdict.confidence, Confidence::Likely);
    let hot = watch_one(
        "gpu H100\n reasons hw_slowdown\n sm_clock 900\n temperature 90",
        10,
    );
    assert_eq!(hot.verdict.cause, Cause::Thermal);
}

#[test]
fn a_kept_power_limit_is_no_fault_and_is_said() {
    let capped = watch_one(
        "gpu H100\n reasons sw_power_cap\n sm_clock 1400\n power 700000\n power_violation_ns 0 ~100 10e9",
        20,
    );
    assert_eq!(capped.verdict.cause, Cause::None, "{:?}", capped.verdict);
    assert!(says(
        &capped.verdict.notes,
        &["sw_power_cap", "100%", "700 W", "no fault"]
    ));
    assert_eq!(capped.window.slowed(), None);
}

#[test]
fn an_idle_gpu_with_low_clocks_and_a_low_link_is_well() {
    let idle = watch_one(
        "gpu H100\n reasons gpu_idle\n utilisation 0\n sm_clock 345\n link_generation 1",
        10,
    );
    assert_eq!(idle.verdict.cause, Cause::None, "{:?}", idle.verdict);
    assert!(says(&idle.verdict.notes, &["idle"]));
    assert_eq!((idle.window.loaded, idle.window.link_of_max), (0.0, None));
}

#[test]
fn a_hardware_slowdown_of_a_moment_is_a_note() {
    let brief = watch_one("gpu H100\n reasons hw_slowdown @1 none", 40);
    assert_eq!(brief.verdict.cause, Cause::None);
    assert!(
        says(&brief.verdict.notes, &["hw_slowdown", "briefly"]),
        "{:?}",
        brief.verdict
    );
}

#[test]
fn a_reason_that_comes_and_goes_is_told_from_one_that_stays() {
    let pattern = |scenario: &str| {
        let watched = watch_one(scenario, 40);
        let held = watched.window.reason(Reason::SoftwareThermal).copied();
        (held.expect("it held"), watched.verdict)
    };
    let (swings, verdict) = pattern(
        "gpu H100\n reasons sw_thermal_slowdown @2 none\n sm_clock 1500 @2 1980\n repeat 4",
    );
    assert_eq!(swings.pattern, Pattern::Oscillating);
    assert!(
        (swings.share - 0.5).abs() < 0.05 && swings.changes >= 18,
        "{swings:?}"
    );
    assert_eq!(verdict.cause, Cause::Thermal);
    assert!(says(&verdict.evidence, &["on and off"]), "{verdict:?}");
    let (stays, _) = pattern("gpu H100\n reasons sw_thermal_slowdown");
    assert_eq!((stays.pattern, stays.changes), (Pattern::Sustained, 0));
    let (passes, _) = pattern("gpu H100\n reasons none @10 sw_thermal_slowdown @20 none");
    assert_eq!((passes.pattern, passes.changes), (Pattern::Passing, 2));
}

#[test]
fn a_fatal_xid_is_hardware_and_an_applications_own_is_not() {
    let fatal = watch_one("gpu H100\n xid 13 @2\n xid 95 @5", 10);
    assert_eq!(fatal.window.xids, [Xid(13), Xid(95)]);
    assert_eq!(fatal.verdict.cause, Cause::Hardware);
    assert!(says(
        &fatal.verdict.evidence,
        &["Xid 95", "uncontained memory error"]
    ));
    assert!(fatal.window.is_faulty());
    let own = watch_one("gpu H100\n xid 13 @2", 10);
    assert_eq!(own.verdict.cause, Cause::None);
    assert!(says(&own.verdict.notes, &["Xid 13"]));
    assert!(!own.window.is_faulty());
}

#[test]
fn a_gpu_lost_midway_is_a_state_and_costs_the_others_nothing() {
    let both = watch("gpu H100\n state ok @5 !lost\n xid 79 @4\ngpu H100", 10);
    let [lost, well] = &both[..] else {
        panic!("two GPUs")
    };
    assert_eq!(lost.latest.state, State::Lost);
    assert_eq!(lost.verdict.cause, Cause::Hardware);
    assert!(says(&lost.verdict.evidence, &["off the bus"]));
    assert!(says(&lost.verdict.evidence, &["Xid 79"]));
    // Nothing was asked after the first refusal.
    let missing: Vec<_> = lost
        .latest
        .missing
        .iter()
        .map(|m| (m.figure, m.why))
        .collect();
    assert_eq!(missing, [("sm_clock_mhz", Absent::GpuLost)]);
    assert_eq!(
        (well.latest.state, well.verdict.cause),
        (State::Answers, Cause::None)
    );
    assert_eq!(well.latest.sm_clock_mhz, Some(1980));
    let reset = watch_one("gpu H100\n state ok @5 !reset", 10);
    assert_eq!(reset.latest.state, State::NeedsReset);
}

#[test]
fn a_gpu_lost_before_it_was_opened_is_there_with_its_state() {
    let both = watch("gpu H100\n state !lost\ngpu H100", 3);
    assert_eq!(both[0].latest.state, State::Lost);
    assert_eq!(both[0].verdict.cause, Cause::Hardware);
    assert_eq!(both[1].verdict.cause, Cause::None);
}

#[test]
fn a_link_below_its_best_counts_under_load_only() {
    let narrow = watch_one("gpu H100\n link_width 4\n link_generation 5", 10);
    assert_eq!(narrow.verdict.cause, Cause::Link);
    let evidence = &narrow.verdict.evidence;
    assert!(
        says(evidence, &["generation 5 x4", "generation 5 x16", "25%"]),
        "{evidence:?}"
    );
    assert_eq!(narrow.window.link_lost(), Some(0.25));
    // It trains up as the load begins.
    let rising = watch_one("gpu H100\n link_generation 1 @2 5", 20);
    assert_eq!(rising.verdict.cause, Cause::None);
    let repeats = watch_one("gpu H100\n pcie_replays 1000 ~10 1040", 10);
    assert_eq!(repeats.verdict.cause, Cause::Link);
    assert!(
        says(&repeats.verdict.evidence, &["36 packets"]),
        "{:?}",
        repeats.verdict
    );
    let once = watch_one("gpu H100\n pcie_replays 1000 @5 1003", 10);
    assert_eq!(once.verdict.cause, Cause::None);
}

#[test]
fn another_process_on_the_gpu_is_contention() {
    let scenario = "gpu H100\n process 100 8e9 60\n process 200 8e9 0 @5 45\n process 300 1e9 0";
    let known = watch_as(scenario, 20, &[100]).remove(0);
    assert_eq!(
        known.verdict.cause,
        Cause::Contention,
        "{:?}",
        known.verdict
    );
    assert!(says(&known.verdict.evidence, &["process 200"]));
    assert!(!says(&known.verdict.evidence, &["process 100"]));
    let alone = watch_as("gpu H100\n process 100 8e9 60", 20, &[100]).remove(0);
    assert_eq!(alone.verdict.cause, Cause::None);
    // Who watches from outside, or from within a container, cannot tell whose work is meant to be there.
    let outside = watch_one("gpu H100\n process 100 8e9 60\n process 200 8e9 45", 20);
    assert_eq!(outside.verdict.confidence, Confidence::Possible);
    let one = watch_one("gpu H100\n process 100 8e9 60", 20);
    assert_eq!(one.verdict.cause, Cause::None);
}

#[test]
fn counters_mean_something_by_their_rise_only() {
    let old = watch_one(
        "gpu H100\n ecc_volatile_uncorrected 12\n ecc_aggregate_uncorrected 500\n rows_uncorrected 3\n pcie_replays 5000
         thermal_violation_ns 9e15",
        10,
    );
    assert_eq!(old.verdict.cause, Cause::None, "{:?}", old.verdict);
    assert_eq!(old.window.rise.ecc_uncorrected, Some(0));
    assert_eq!(old.window.thermal_violation, Some(0.0));
    let heat = watch_one(
        "gpu H100\n thermal_violation_ns 9e15 ~100 9000004000000000",
        11,
    );
    assert!(
        heat.window
            .thermal_violation
            .is_some_and(|share| (share - 0.4).abs() < 0.01)
    );
    assert_eq!(
        (heat.verdict.cause, heat.verdict.confidence),
        (Cause::Thermal, Confidence::Likely)
    );
}

#[test]
fn a_row_that_cannot_be_replaced_is_hardware_and_one_that_waits_is_a_note() {
    let failed = watch_one("gpu H100\n rows_failed 1", 2);
    assert_eq!(failed.verdict.cause, Cause::Hardware);
    let pending = watch_one("gpu H100\n rows_pending 1", 2);
    assert_eq!(pending.verdict.cause, Cause::None);
    assert!(says(&pending.verdict.notes, &["reset"]));
}

#[test]
fn mig_leaves_out_what_it_does_not_tell() {
    let mig = watch_one(
        "gpu H100\n mig 1\n utilisation !not_supported\n process_samples !not_supported\n rows_failed !not_supported",
        5,
    );
    assert_eq!(mig.latest.utilisation, None);
    let why = |figure: &str| mig.latest.missing.iter().find(|m| m.figure == figure);
    assert_eq!(
        why("utilisation").map(|m| m.why),
        Some(Absent::NotSupported)
    );
    assert_eq!(mig.window.loaded, 1.0); // by its clock-event reasons
    assert_eq!(mig.verdict.cause, Cause::None);
    assert!(says(&mig.verdict.notes, &["MIG is on"]));
}

#[test]
fn what_a_user_may_not_see_is_told_from_what_a_gpu_does_not_have() {
    let kept = watch_one(
        "gpu H100\n ecc_volatile_corrected !no_permission\n processes !no_permission\n retired_pages !not_supported
         power !unknown",
        3,
    );
    let why = |figure: &str| {
        let found = kept.latest.missing.iter().find(|m| m.figure == figure);
        found.map(|m| m.why)
    };
    assert_eq!(why("ecc.volatile_corrected"), Some(Absent::NoPermission));
    assert_eq!(why("processes"), Some(Absent::NoPermission));
    assert_eq!(why("retired_pages"), Some(Absent::NotSupported));
    assert_eq!(why("power_w"), Some(Absent::Failed));
    assert_eq!(kept.latest.temperature_c, Some(55));
    assert!(says(
        &kept.verdict.notes,
        &["keeps from this user", "processes"]
    ));
}

#[test]
fn bytes_are_counted_where_the_gpu_counts_and_asked_as_a_rate_where_not() {
    let counts = watch_one("gpu H100\n pcie_tx_bytes 0 ~10 1e9\n pcie_rx_bytes 5e9", 11);
    assert_eq!(counts.window.pcie_tx_bytes_per_s, Some(1e9));
    assert_eq!(counts.window.pcie_rx_bytes_per_s, Some(0.0));
    let rate = watch_one(
        "gpu V100\n pcie_tx_bytes !not_supported\n pcie_rx_bytes !not_supported\n pcie_throughput 250000",
        11,
    );
    assert_eq!(rate.window.pcie_tx_bytes_per_s, Some(250e6));
}

#[test]
fn eight_gpus_are_read_each_by_its_index() {
    let stub = Stub::new("gpu NVIDIA H100 x8\n power 100000");
    let mut source = Source::open(Some(&stub.library())).expect("the stub is NVML");
    let indices: Vec<u32> = source.read().iter().map(|reading| reading.gpu).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5, 6, 7]);
    let buses: std::collections::HashSet<_> = source
        .gpus()
        .iter()
        .map(|gpu| gpu.pci_bus_id.clone())
        .collect();
    assert_eq!(buses.len(), 8);
}

#[test]
fn a_driver_that_does_not_answer_is_a_reason_with_advice() {
    let open = |scenario: &str| {
        let stub = Stub::new(scenario);
        Source::open(Some(&stub.library())).expect_err("it does not answer")
    };
    let no_driver = open("init driver_not_loaded");
    assert!(matches!(no_driver, Unavailable::NoDriver) && no_driver.can_retry());
    assert!(matches!(
        open("init no_permission"),
        Unavailable::NoPermission
    ));
    assert!(matches!(
        open("init version_mismatch"),
        Unavailable::VersionMismatch
    ));
    assert!(matches!(open("init unknown"), Unavailable::Failed { .. }));
}

#[test]
fn a_file_that_is_not_nvml_is_refused_by_name() {
    let absent = Source::open(Some("/nowhere/libnvidia-ml.so".as_ref())).expect_err("not there");
    assert!(
        absent.to_string().contains("/nowhere/libnvidia-ml.so"),
        "{absent}"
    );
    assert_eq!(absent.code(), 802);
    // A library, but another one.
    let other = Source::open(Some("libc.so.6".as_ref())).expect_err("it has no NVML");
    assert!(matches!(other, Unavailable::NotLoaded { .. }), "{other}");
}

#[test]
fn this_machines_own_library_answers_or_says_why_not() {
    match Source::open(None) {
        Ok(mut source) => {
            assert!(!source.driver().is_empty());
            assert_eq!(source.read().len(), source.gpus().len());
            for (gpu, reading) in source.gpus().to_vec().iter().zip(source.read()) {
                println!("{gpu:?}\n{reading:?}");
            }
        }
        Err(reason) => assert!(!reason.to_string().is_empty()),
    }
}
