//! Whatever a file holds, opening it gives a model or an error: never a panic, and never more memory than the file
//! proves to need. Mutations come from fixed seeds, so that a failure is found again by its number.

mod model_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

use collage::model::compile::PlanOptions;
use collage::model::file::{self, Container, Stored};
use collage::model::metadata::{CollageSpec, KEY};
use collage::model::plan::{Grid, Plan};
use collage::model::resnet::{Block, ShortcutKind};
use collage::model::{Metadata, Model};
use model_support::*;
use serde_json::{Value, json};

/// Counts each thread's live bytes and their peak.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // Threads that end after their counters are not measured.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing and cannot unwind.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller's promises are those of `System`.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }
    // SAFETY: the caller's promises are those of `System`.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that was alive at once while `f` ran, over what was alive before.
fn peak_bytes<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = f();
    (result, (PEAK.get() - before) as usize)
}

/// Opens and, where that works, compiles `bytes`; true when it is a model.
///
/// What a file proves: a header byte may become 16 bytes at most (a list of one-digit numbers or of small objects, while
/// its vector doubles), and a tensor's byte 8 (f16 to f32, raw and folded). What it need not prove: the layers of a
/// family, at most 4096, which are made from a few numbers before their tensors are looked for.
fn try_open(bytes: &[u8], what: &dyn Fn() -> String) -> bool {
    let allowed = 16 * bytes.len() + (4 << 20);
    let (model, peak) = peak_bytes(|| Model::from_bytes("fuzzed", bytes));
    assert!(
        peak <= allowed,
        "{}: {peak} bytes at once for a file of {}",
        what(),
        bytes.len()
    );
    let named = Model::from_bytes_with_arch("fuzzed", bytes, "resnet20");
    for error in [model.as_ref().err(), named.as_ref().err()]
        .into_iter()
        .flatten()
    {
        assert!(
            error.to_string().starts_with("fuzzed: "),
            "{}: {error}",
            what()
        );
    }
    for model in [&model, &named].into_iter().flatten() {
        for grid in [
            Grid::ONE,
            Grid { rows: 2, cols: 3 },
            Grid {
                rows: 256,
                cols: 256,
            },
        ] {
            for batch in [1, 3, usize::MAX / 7] {
                if let Ok(plan) = Plan::compile(
                    model,
                    &PlanOptions {
                        batch,
                        grid,
                        ..PlanOptions::default()
                    },
                ) {
                    plan.check().unwrap_or_else(|e| panic!("{}: {e}", what()));
                }
            }
        }
    }
    model.is_ok()
}

fn subjects() -> Vec<(Metadata, Vec<Stored>)> {
    let spec = |stride| {
        Some(CollageSpec {
            stride,
            grids: grids("1x1,2x3"),
        })
    };
    let list = layer_list(
        r#"[{"op": "conv2d", "name": "a", "channels": 2, "kernel": 3, "padding": 1, "norm": "n", "activation": "relu"},
            {"op": "max_pool2d", "name": "p", "kernel": 2, "stride": 2},
            {"op": "conv2d", "name": "b", "channels": 3, "kernel": 1, "residual": {"layer": "p", "channel_offset": 1}},
            {"op": "linear", "name": "fc"}]"#,
    );
    let described = [
        metadata(small(Block::Basic, ShortcutKind::Pad, false), 8, 2, spec(2)),
        metadata(
            small(Block::Bottleneck, ShortcutKind::Projection, true),
            16,
            2,
            None,
        ),
        metadata(list, 4, 2, spec(2)),
    ];
    described
        .into_iter()
        .map(|m| (m.clone(), tensors(&m.architecture, 2)))
        .collect()
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for (metadata, stored) in subjects() {
        let bytes = metadata.write(&stored).unwrap();
        assert!(try_open(&bytes, &|| "whole".into()));
        let header = bytes.len() - Container::parse(&bytes).unwrap().data().len();
        // Every byte of the header and around it; the data, where only the length matters, at every 61st.
        let cuts = (0..bytes.len()).filter(|cut| *cut < header + 64 || cut % 61 == 0);
        for cut in cuts.chain([bytes.len() - 1]) {
            assert!(
                !try_open(&bytes[..cut], &|| format!("cut at {cut}")),
                "cut at {cut}"
            );
        }
    }
}

/// One mutation of bytes: a flip, a digit, an insertion, a removal, a repetition, a length.
fn mutate(bytes: &mut Vec<u8>, header: usize, seed: u64) {
    let random =
        |n: u64, below: usize| (hash(seed.wrapping_add(n << 32)) % below.max(1) as u64) as usize;
    // Three of four in the header, where a byte means more.
    let reach = if random(0, 4) > 0 {
        header
    } else {
        bytes.len()
    };
    let at = random(1, reach.min(bytes.len()));
    let telling = b"0192-\"[]{},:.eE\\\x00\x7f\xff FIB";
    match random(2, 6) {
        _ if bytes.is_empty() => {}
        0 => bytes[at] ^= 1 << random(3, 8),
        1 => bytes[at] = telling[random(3, telling.len())],
        2 => bytes.insert(at, telling[random(3, telling.len())]),
        3 => drop(bytes.drain(at..(at + 1 + random(3, 40)).min(bytes.len()))),
        4 => {
            let end = (at + 1 + random(3, 200)).min(bytes.len());
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        _ => {
            let length = random(3, 8.min(bytes.len()));
            bytes[length] = telling[random(4, telling.len())];
        }
    }
    // Half of the time the header's length is made to fit again, so that more than it is tested.
    if bytes.len() >= 8 && random(5, 2) == 0 {
        let fit = header as i64 - 8 + random(6, 3) as i64 - 1;
        bytes[..8].copy_from_slice(&fit.to_le_bytes());
    }
}

#[test]
fn a_file_with_any_bytes_changed_is_a_model_or_an_error() {
    let mut opened = 0;
    for (which, (metadata, stored)) in subjects().into_iter().enumerate() {
        let bytes = metadata.write(&stored).unwrap();
        let plain = file::write(&BTreeMap::new(), &stored).unwrap();
        for whole in [bytes, plain] {
            let header = whole.len() - Container::parse(&whole).unwrap().data().len();
            for case in 0..2500u64 {
                let mut bytes = whole.clone();
                for round in 0..=case % 4 {
                    mutate(&mut bytes, header, (which as u64) << 56 ^ case << 8 ^ round);
                }
                opened += usize::from(try_open(&bytes, &|| {
                    format!("subject {which}, case {case}")
                }));
            }
        }
    }
    println!("{opened} of 15000 mutated files were still models");
}

/// Paths to all values in `value`, itself included.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(k, v)| pointers(v, &format!("{at}/{k}"), found)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, v)| pointers(v, &format!("{at}/{i}"), found)),
        _ => {}
    }
}

#[test]
fn metadata_with_any_value_changed_is_a_model_or_an_error() {
    let mut opened = 0;
    for (which, (metadata, stored)) in subjects().into_iter().enumerate() {
        let bytes = metadata.write(&stored).unwrap();
        // Under the right checksum, so that what is behind it is reached.
        let json = Container::parse(&bytes)
            .unwrap()
            .metadata(KEY)
            .unwrap()
            .to_owned();
        let whole: Value = serde_json::from_str(&json).unwrap();
        let mut paths = Vec::new();
        pointers(&whole, "", &mut paths);
        for case in 0..2500u64 {
            let random = |n: u64, below: usize| {
                (hash((which as u64) << 56 ^ case << 8 ^ n) % below as u64) as usize
            };
            let mut value = whole.clone();
            for round in 0..=case % 3 {
                let replacements = [
                    json!(random(round + 16, 5)),
                    json!(random(round + 16, 600)),
                    json!(u64::MAX),
                    json!(1u64 << random(round + 16, 64)),
                    json!(-1),
                    json!(1e308),
                    json!(0.5),
                    json!(null),
                    json!(true),
                    json!(""),
                    json!(["a", "p", "b", "fc", "input", "n", "conv1"][random(round + 16, 7)]),
                    json!("256x256"),
                    json!([]),
                    json!({}),
                    whole
                        .pointer(&paths[random(round + 16, paths.len())])
                        .cloned()
                        .unwrap(),
                ];
                let path = &paths[random(round, paths.len())];
                if let Some(place) = value.pointer_mut(path) {
                    *place = replacements[random(round + 32, replacements.len())].clone();
                }
            }
            let mutated = BTreeMap::from([(KEY.to_owned(), value.to_string())]);
            let bytes = file::write(&mutated, &stored).unwrap();
            opened += usize::from(try_open(&bytes, &|| {
                format!("subject {which}, case {case}: {value}")
            }));
        }
    }
    println!("{opened} of 7500 files with mutated metadata were still models");
    assert!(opened > 100, "too few reach the plan compiler: {opened}");
}

#[test]
fn headers_made_to_be_costly_cost_a_multiple_of_the_file() {
    let container =
        |header: String| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    let list = |item: &str, n: usize| vec![item; n].join(",");
    let tensor = |i: usize| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let described = |field: &str, array: String| {
        let value = format!(
            r#"{{"format":1,"kind":"base","architecture":{{"family":"layers","layers":[]}},"{field}":{array}}}"#
        );
        container(json!({"__metadata__": {KEY: value}}).to_string())
    };
    let layers = format!(
        r#"{{"format":1,"kind":"base","architecture":{{"family":"layers","layers":[{}]}}}}"#,
        list(r#"{"op":"linear","name":""}"#, 30_000)
    );
    let costly = [
        container(format!(
            r#"{{"w":{{"dtype":"U8","data_offsets":[0,0],"shape":[{}]}}}}"#,
            list("0", 500_000)
        )),
        container(format!(
            "{{{}}}",
            (0..20_000).map(tensor).collect::<Vec<_>>().join(",")
        )),
        container(format!(
            r#"{{"__metadata__":{{{}}}}}"#,
            (0..90_000)
                .map(|i| format!(r#""{i}":"""#))
                .collect::<Vec<_>>()
                .join(",")
        )),
        container("[".repeat(1_000_000)),
        container(json!({"__metadata__": {KEY: "[".repeat(1_000_000)}}).to_string()),
        container(json!({"__metadata__": {KEY: layers}}).to_string()),
        described("classes", format!("[{}]", list("\"\"", 300_000))),
        described(
            "accuracy",
            format!(
                "{{{}}}",
                (0..90_000)
                    .map(|i| format!(r#""{i}":0"#))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        ),
    ];
    for (i, bytes) in costly.iter().enumerate() {
        assert!(bytes.len() > 700_000 && !try_open(bytes, &|| format!("costly {i}")));
    }
}

#[test]
fn weights_with_any_byte_changed_are_a_model_or_an_error() {
    // Without metadata there is no checksum, so the tensors themselves must be looked at.
    let architecture = named(collage::model::resnet::Named::ResNet20);
    let whole = file::write(&BTreeMap::new(), &tensors(&architecture, 10)).unwrap();
    let header = whole.len() - Container::parse(&whole).unwrap().data().len();
    let mut refused = 0;
    for case in 0..60u64 {
        let mut bytes = whole.clone();
        for flip in 0..1 + case % 200 {
            let at = header + (hash(case << 20 ^ flip) % (whole.len() - header) as u64) as usize;
            bytes[at] ^= (hash(case << 20 ^ flip ^ 1 << 60) % 255 + 1) as u8;
        }
        // Every other time, also a value that no weight has: the data is all f32.
        if case % 2 == 0 {
            let at = header + 4 * (hash(case) % ((whole.len() - header) / 4) as u64) as usize;
            let value =
                [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN][case as usize / 2 % 4];
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        match Model::from_bytes_with_arch("fuzzed", &bytes, "resnet20") {
            Ok(model) => {
                let mut all = model.weights().tensors.iter().flat_map(|t| t.data());
                assert!(all.all(|v| v.is_finite()), "case {case}");
            }
            Err(e) => {
                refused += 1;
                assert!(
                    e.to_string().starts_with("fuzzed: tensor ")
                        || e.to_string().contains("folding"),
                    "{e}"
                );
            }
        }
    }
    assert!(refused >= 30, "{refused} refused");
    println!("{refused} of 60 damaged weights were refused, the rest are finite");
}
