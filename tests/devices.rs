//! Lists of devices on the machine at hand: all of a kind are those that were found, and workers are dealt over them in
//! turn. Lists that cannot be are claims of `backend::device_list`; two CUDA devices are one of `cli_cuda`.

mod skip;

use std::sync::Arc;

use collage::backend::{BackendKind, Device, DeviceList, Found, discover};

fn open(list: &str, workers: usize) -> Vec<Arc<dyn Device>> {
    let list: DeviceList = list.parse().expect(list);
    list.open(workers).unwrap_or_else(|e| panic!("{list}: {e}"))
}

/// Indices of the adapters that count: real ones, or emulated ones where there are no others.
fn adapters() -> Vec<usize> {
    let usable = |software: bool| -> Vec<usize> {
        let infos = discover().into_iter().filter_map(|found| match found {
            Found::Usable(info) => Some(info),
            Found::Unusable { .. } => None,
        });
        let of_kind = infos.filter(|i| i.backend == BackendKind::Wgpu && i.software == software);
        of_kind.map(|info| info.index).collect()
    };
    let real = usable(false);
    if real.is_empty() { usable(true) } else { real }
}

#[test]
fn all_adapters_of_a_kind_are_opened_and_shared_by_the_workers() {
    let expected = adapters();
    if expected.is_empty() {
        let claim = "all_adapters_of_a_kind_are_opened_and_shared_by_the_workers";
        return skip::skip(claim, "it needs a Vulkan, Metal or DirectX 12 adapter");
    }
    let index = |device: &Arc<dyn Device>| device.info().index;
    let found: Vec<usize> = open("wgpu:*", 3).iter().map(index).collect();
    assert_eq!(found, expected);
    // One list of two kinds: worker i is on device i modulo their count.
    let mixed = open("wgpu:*,cpu:1", 5);
    assert_eq!(mixed.len(), expected.len() + 1);
    let kinds: Vec<BackendKind> = mixed.iter().map(|d| d.info().backend).collect();
    assert_eq!(kinds.last(), Some(&BackendKind::Cpu));
    assert_eq!(
        kinds.iter().filter(|k| **k == BackendKind::Wgpu).count(),
        expected.len()
    );
}

#[test]
fn a_processors_threads_are_those_that_were_asked_for() {
    for (list, workers) in [("cpu:1", 4), ("cpu:3", 2), ("cpu", 1), ("auto", 2)] {
        let devices = open(list, workers);
        assert!(!devices.is_empty() && devices.len() <= workers, "{list}");
    }
}
