//! Claims about files: what is written is read back, and every way a file can lie has an error of its own that names
//! the file and the liar.

mod model_support;

use std::collections::{BTreeMap, HashMap};

use collage::error::Classify;
use collage::model::file::{self, Container, Storage, Stored};
use collage::model::metadata::{CollageSpec, FORMAT, KEY};
use collage::model::plan::Filter;
use collage::model::resnet::{Block, Named, ShortcutKind};
use collage::model::{Fault, Kind, Metadata, Model, ModelError};
use model_support::*;
use serde_json::{Value, json};

/// A small base model.
fn base() -> (Metadata, Vec<Stored>) {
    let described = metadata(
        small(Block::Basic, ShortcutKind::Projection, true),
        16,
        3,
        None,
    );
    let stored = tensors(&described.architecture, 3);
    (described, stored)
}

/// A small collage model.
fn collage() -> (Metadata, Vec<Stored>) {
    let spec = CollageSpec {
        stride: 2,
        grids: grids("1x1,3x3"),
    };
    let described = metadata(
        small(Block::Basic, ShortcutKind::Pad, false),
        8,
        3,
        Some(spec),
    );
    let stored = tensors(&described.architecture, 3);
    (described, stored)
}

fn open(bytes: &[u8]) -> Result<Model, ModelError> {
    Model::from_bytes("lie.safetensors", bytes)
}

/// The error of a file, whose code must be `code` and whose message must name the file and contain `says`.
#[track_caller]
fn refuse(bytes: &[u8], code: u32, says: &str) -> Fault {
    let error = open(bytes).expect_err("accepted");
    let message = error.to_string();
    assert!(message.starts_with("lie.safetensors: "), "{message}");
    assert!(message.contains(says), "`{message}` does not say `{says}`");
    assert_eq!(
        (error.code(), error.can_retry()),
        (code, false),
        "{message}"
    );
    error.fault
}

/// A container with any header text.
fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The base model with its metadata JSON edited.
fn described(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    edited(base(), edit)
}

fn edited((metadata, stored): (Metadata, Vec<Stored>), edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let bytes = metadata.write(&stored).unwrap();
    let json = Container::parse(&bytes)
        .unwrap()
        .metadata(KEY)
        .unwrap()
        .to_owned();
    let mut value: Value = serde_json::from_str(&json).unwrap();
    edit(&mut value);
    file::write(
        &BTreeMap::from([(KEY.to_owned(), value.to_string())]),
        &stored,
    )
    .unwrap()
}

/// The base model with its tensors edited, under a checksum that fits.
fn stored(edit: impl FnOnce(&mut Vec<Stored>)) -> Vec<u8> {
    let (metadata, mut tensors) = base();
    edit(&mut tensors);
    metadata.write(&tensors).unwrap()
}

fn find<'a>(tensors: &'a mut [Stored], name: &str) -> &'a mut Stored {
    tensors.iter_mut().find(|t| t.name == name).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    for (mut metadata, stored) in [base(), collage()] {
        metadata.temperature = 1.25;
        metadata.min_confidence = 0.5;
        metadata.source = Some("here".to_owned());
        metadata.licence = Some("CC BY 4.0".to_owned());
        metadata.accuracy = BTreeMap::from([("base".to_owned(), 0.98)]);
        metadata.preprocessing.filter = Filter::Bicubic;
        let bytes = metadata.write(&stored).unwrap();
        let model = open(&bytes).unwrap();
        metadata.sha256 = model.metadata().sha256.clone();
        assert_eq!(model.metadata(), &metadata);
        assert_eq!(
            bytes,
            metadata.write(&stored).unwrap(),
            "the same content is the same bytes"
        );
        let container = Container::parse(&bytes).unwrap();
        for t in &stored {
            let view = container.tensor(&t.name).unwrap();
            assert_eq!(
                (view.dtype, view.shape, view.bytes),
                (t.dtype, &t.shape[..], &t.bytes[..])
            );
        }
    }
}

#[test]
fn named_and_listed_architectures_are_read_back() {
    let listed = layer_list(
        r#"[{"op": "conv2d", "name": "a", "channels": 4, "kernel": 3, "padding": 1, "activation": "relu"},
            {"op": "max_pool2d", "name": "p", "kernel": 2, "stride": 2},
            {"op": "linear", "name": "fc"}]"#,
    );
    for architecture in [listed, named(Named::ResNet20)] {
        let metadata = metadata(architecture, 32, 10, None);
        let model = open(
            &metadata
                .write(&tensors(&metadata.architecture, 10))
                .unwrap(),
        )
        .unwrap();
        assert_eq!(model.metadata().architecture, metadata.architecture);
        assert_eq!(model.kind(), Kind::Base);
    }
}

#[test]
fn the_reference_reader_reads_our_files_and_we_read_the_reference_writers() {
    let (metadata, stored) = base();
    let ours = metadata.write(&stored).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&ours).unwrap();
    assert_eq!(theirs.len(), stored.len());
    for t in &stored {
        assert_eq!(theirs.tensor(&t.name).unwrap().data(), t.bytes);
    }
    let views = stored.iter().map(|t| {
        let view = safetensors::tensor::TensorView::new(
            safetensors::Dtype::F32,
            t.shape.clone(),
            &t.bytes,
        );
        (t.name.clone(), view.unwrap())
    });
    let json = Container::parse(&ours)
        .unwrap()
        .metadata(KEY)
        .unwrap()
        .to_owned();
    let written =
        safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), json)]))).unwrap();
    // The checksum holds too: the reference writes tensors in the same order.
    assert_eq!(
        open(&written).unwrap().metadata(),
        open(&ours).unwrap().metadata()
    );
}

#[test]
fn a_file_on_disk_loads_and_may_be_changed_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let (metadata, stored) = base();
    std::fs::write(&path, metadata.write(&stored).unwrap()).unwrap();
    let model = Model::open(&path).unwrap();
    let before = model.weights().tensors[0].clone();
    std::fs::write(&path, b"").unwrap();
    assert_eq!(model.weights().tensors[0], before);
    let error = Model::open(&path).unwrap_err();
    assert_eq!(error.code(), 201);
    assert_eq!(error.file, path.display().to_string());
}

#[test]
fn files_that_are_not_there_or_not_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for path in [
        folder.path().join("absent.safetensors"),
        folder.path().to_owned(),
    ] {
        let error = Model::open(&path).unwrap_err();
        assert!(matches!(error.fault, Fault::Io(_)));
        assert!(
            error
                .to_string()
                .starts_with(&format!("{}: cannot be read", path.display()))
        );
        assert_eq!((error.code(), error.can_retry()), (200, false));
    }
}

#[test]
fn containers_that_are_cut_short_are_refused() {
    refuse(b"", 201, "0 bytes");
    refuse(&[1, 2, 3], 201, "3 bytes");
    refuse(&u64::MAX.to_le_bytes(), 202, "18446744073709551615 bytes");
    refuse(&100_000_001u64.to_le_bytes(), 202, "100000000 at most");
    refuse(&raw("{}", &[])[..9], 203, "takes 2 bytes, 1 are there");
    refuse(&100_000_000u64.to_le_bytes(), 203, "0 are there");
    let bytes = stored(|_| {});
    refuse(&bytes[..bytes.len() - 1], 207, "truncated: tensor");
}

#[test]
fn headers_that_are_not_headers_are_refused() {
    for header in [
        "",
        "[]",
        "{",
        "null",
        "{} x",
        "\u{0}",
        r#"{"a": 1}"#,
        r#"{"__metadata__": {"a": 1}}"#,
    ] {
        refuse(&raw(header, &[]), 204, "its header");
    }
    refuse(&raw("\u{7f}", &[0xff]), 204, "line 1 column 1");
    let deep = "[".repeat(100_000);
    refuse(&raw(&format!(r#"{{"a": {deep}"#), &[]), 204, "tensor a");
    let negative = r#"{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}"#;
    refuse(&raw(negative, &[0; 4]), 204, "tensor w");
    refuse(
        &raw(r#"{"w": {"dtype": "F32", "shape": [1]}}"#, &[0; 4]),
        204,
        "data_offsets",
    );
    refuse(
        &raw(r#"{"__metadata__": {}, "__metadata__": {}}"#, &[]),
        204,
        "__metadata__ occurs twice",
    );
}

#[test]
fn tensors_that_lie_about_their_bytes_are_refused() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        raw(
            &format!(
                r#"{{"w": {{"dtype": "{dtype}", "shape": {shape}, "data_offsets": {offsets}}}}}"#
            ),
            &[0; 8],
        )
    };
    refuse(
        &one("F32", "[2]", "[8, 0]"),
        206,
        "tensor w: its bytes 8..0",
    );
    refuse(
        &one("F32", "[3]", "[0, 12]"),
        207,
        "tensor w ends at byte 12 of the data, 8 are there",
    );
    refuse(
        &one("F32", "[2]", "[18446744073709551608, 18446744073709551615]"),
        207,
        "tensor w",
    );
    refuse(
        &one("F32", "[3]", "[0, 8]"),
        208,
        "tensor w: 8 bytes, expected 12 for F32 (3)",
    );
    refuse(&one("F64", "[2]", "[0, 8]"), 208, "expected 16 for F64 (2)");
    refuse(
        &one("F32", "[4294967296, 4294967296]", "[0, 8]"),
        209,
        "(4294967296, 4294967296)",
    );
    refuse(
        &one("F32", "[18446744073709551615, 2]", "[0, 8]"),
        209,
        "larger than any memory",
    );
    refuse(
        &one("F32", "[1]", "[4, 8]"),
        211,
        "bytes 0..4 of the data belong to no tensor",
    );
    refuse(
        &one("F32", "[1]", "[0, 4]"),
        211,
        "bytes 4..8 of the data belong to no tensor",
    );
    refuse(&one("Q4_0", "[2]", "[0, 8]"), 212, "tensor w: dtype Q4_0");
    let two = |first: &str, name: &str, second: &str| {
        let tensor = |name: &str, at: &str| {
            format!(r#""{name}": {{"dtype": "U8", "shape": [4], "data_offsets": {at}}}"#)
        };
        raw(
            &format!("{{{}, {}}}", tensor("a", first), tensor(name, second)),
            &[0; 8],
        )
    };
    refuse(&two("[0, 4]", "a", "[4, 8]"), 205, "tensor a: named twice");
    refuse(
        &two("[0, 4]", "b", "[3, 7]"),
        210,
        "tensor b: begins at byte 3 of the data, inside another",
    );
}

#[test]
fn a_checked_container_gives_every_tensor_its_bytes() {
    let stored = [
        Stored {
            name: "labels".into(),
            dtype: Storage::U8,
            shape: vec![3],
            bytes: vec![1, 2, 3],
        },
        Stored::f32("x", &[1, 2], &[1.5, -2.0]),
        Stored {
            name: "empty".into(),
            dtype: Storage::I64,
            shape: vec![0, 7],
            bytes: vec![],
        },
        Stored::f32("scalar", &[], &[4.0]),
    ];
    let bytes = file::write(&BTreeMap::new(), &stored).unwrap();
    let container = Container::parse(&bytes).unwrap();
    assert_eq!(
        container.names().collect::<Vec<_>>(),
        ["empty", "labels", "scalar", "x"]
    );
    assert_eq!(container.tensor("labels").unwrap().bytes, [1, 2, 3]);
    assert_eq!(container.tensor("labels").unwrap().to_f32(), None);
    assert_eq!(
        container.tensor("x").unwrap().to_f32(),
        Some(vec![1.5, -2.0])
    );
    assert_eq!(
        container.tensor("scalar").unwrap().to_f32(),
        Some(vec![4.0])
    );
    assert!(container.tensor("y").is_none());
}

#[test]
fn a_writer_refuses_what_a_reader_would() {
    let short = Stored {
        name: "w".into(),
        dtype: Storage::F32,
        shape: vec![2],
        bytes: vec![0; 4],
    };
    assert!(matches!(
        file::write(&BTreeMap::new(), &[short]),
        Err(Fault::SizeMismatch { .. })
    ));
    let twice = [
        Stored::f32("w", &[1], &[0.0]),
        Stored::f32("w", &[1], &[0.0]),
    ];
    assert!(matches!(
        file::write(&BTreeMap::new(), &twice),
        Err(Fault::DuplicateTensor { .. })
    ));
}

#[test]
fn plain_weights_need_an_architecture() {
    let architecture = named(Named::ResNet20);
    let bytes = file::write(&BTreeMap::new(), &tensors(&architecture, 10)).unwrap();
    refuse(&bytes, 220, "name it with --arch (resnet18, resnet34");
    let error = |arch: &str| Model::from_bytes_with_arch("lie", &bytes, arch).unwrap_err();
    assert_eq!(error("vgg16").code(), 226);
    assert_eq!(
        error("vgg16").to_string(),
        "lie: architecture vgg16: unknown, expected resnet, layers or one of resnet18, resnet34, resnet50, resnet101, resnet20, resnet32, resnet44, resnet56, resnet110"
    );
    assert_eq!(
        error("layers").code(),
        226,
        "a list cannot be named by a flag"
    );
    assert!(
        error("resnet32")
            .to_string()
            .contains("tensor layer1.3.conv1.weight: missing, expected (16, 16, 3, 3)")
    );
    assert!(
        error("resnet18")
            .to_string()
            .contains("tensor conv1.weight: shape (16, 3, 3, 3), expected (64, 3, 7, 7)")
    );
    let model = Model::from_bytes_with_arch("w", &bytes, "resnet20").unwrap();
    assert_eq!(
        (model.name(), model.kind(), model.classes()[9].as_str()),
        ("resnet20", Kind::Base, "truck")
    );
}

#[test]
fn plain_imagenet_weights_get_torchvisions_preprocessing() {
    let model = named_model(Named::ResNet18, 7);
    let p = model.preprocessing();
    assert_eq!(
        (p.resize, p.size, p.filter, p.mean[0], p.std[2]),
        (256, 224, Filter::Bilinear, 0.485, 0.225)
    );
    assert_eq!(model.classes().last().unwrap(), "class_6");
}

#[test]
fn an_architecture_flag_may_agree_with_the_file_but_not_contradict_it() {
    let described = metadata(named(Named::ResNet20), 32, 10, None);
    let bytes = described
        .write(&tensors(&described.architecture, 10))
        .unwrap();
    assert!(Model::from_bytes_with_arch("f", &bytes, "resnet20").is_ok());
    let error = Model::from_bytes_with_arch("f", &bytes, "resnet32").unwrap_err();
    assert_eq!(error.code(), 227);
    assert!(error.to_string().contains("--arch resnet32"));
}

#[test]
fn data_sets_are_not_models() {
    let images = Stored {
        name: "images".into(),
        dtype: Storage::U8,
        shape: vec![2, 1, 1],
        bytes: vec![0; 2],
    };
    let labels = Stored {
        name: "labels".into(),
        dtype: Storage::U8,
        shape: vec![2],
        bytes: vec![0; 2],
    };
    let bytes = file::write(&BTreeMap::new(), &[images, labels]).unwrap();
    refuse(&bytes, 221, "holds a data set");
    assert_eq!(
        Model::from_bytes_with_arch("d", &bytes, "resnet20")
            .unwrap_err()
            .code(),
        221
    );
    let json = json!({"format": 1, "kind": "dataset", "name": "digits"}).to_string();
    refuse(
        &file::write(&BTreeMap::from([(KEY.to_owned(), json)]), &[]).unwrap(),
        221,
        "holds a data set",
    );
}

#[test]
fn metadata_that_is_not_json_names_the_field() {
    let with = |json: &str| {
        file::write(&BTreeMap::from([(KEY.to_owned(), json.to_owned())]), &[]).unwrap()
    };
    refuse(&with("{"), 223, "metadata field");
    refuse(&with(""), 223, "metadata field .");
    refuse(&with("[]"), 223, "metadata field .");
    refuse(&with(&"[".repeat(1000)), 223, "metadata field");
    refuse(&with(r#"{"format": 1}"#), 223, "missing field `kind`");
    refuse(
        &with(&" ".repeat((16 << 20) + 1)),
        222,
        "16777217 bytes, expected 16777216 at most",
    );
    refuse(
        &described(|m| m["preprocessing"]["mean"] = json!([0, "x", 0])),
        223,
        "field preprocessing.mean[1]: ",
    );
    refuse(
        &described(|m| m["preprocessing"]["filter"] = json!("nearest")),
        223,
        "field preprocessing.filter: ",
    );
    refuse(
        &described(|m| m["architecture"]["stages"][1]["channels"] = json!(-1)),
        223,
        "field architecture.stages[1].channels: ",
    );
    refuse(
        &described(|m| m["architecture"]["stem"] = json!({})),
        223,
        "field architecture.stem: missing field `channels`",
    );
    refuse(
        &described(|m| m["architecture"] = Value::Null),
        223,
        "field architecture: ",
    );
    refuse(
        &described(|m| m["kind"] = json!("both")),
        223,
        "field kind: ",
    );
    refuse(
        &described(|m| m["classes"][2] = json!(2)),
        223,
        "field classes[2]: ",
    );
    refuse(
        &described(|m| drop(m.as_object_mut().unwrap().remove("sha256"))),
        223,
        "missing field `sha256`",
    );
    let grids = |list: Value| edited(collage(), |m| m["collage"]["grids"] = list);
    refuse(
        &grids(json!(["2x2", "3"])),
        223,
        "field collage.grids[1]: `3` is not a grid",
    );
    for grid in [
        "0x1",
        "1x0",
        "x",
        "1x",
        "-1x1",
        "+1x1",
        "1x1x1",
        "257x1",
        "99999999999999999999x1",
        " 1x1",
        "",
    ] {
        refuse(&grids(json!([grid])), 223, "is not a grid");
    }
}

#[test]
fn metadata_of_other_versions_is_refused_and_unknown_fields_are_ignored() {
    refuse(
        &described(|m| m["format"] = json!(FORMAT + 1)),
        224,
        "format 2, expected 1",
    );
    let later = described(|m| {
        m["colour"] = json!({"space": "srgb"});
        m["architecture"]["dropout"] = json!(0.1);
    });
    open(&later).unwrap();
}

#[test]
fn metadata_values_that_make_no_sense_name_the_field() {
    let cases: [(&str, Value, &str); 15] = [
        (
            "/preprocessing/size",
            json!(0),
            "preprocessing.size: 0, expected 1 to 8192",
        ),
        (
            "/preprocessing/size",
            json!(17),
            "preprocessing.resize: 16, expected size to 8192",
        ),
        (
            "/preprocessing/resize",
            json!(usize::MAX),
            "preprocessing.resize: 18446744073709551615",
        ),
        (
            "/preprocessing/std/2",
            json!(0.0),
            "preprocessing.std[2]: 0",
        ),
        (
            "/preprocessing/std/0",
            json!(-1.0),
            "preprocessing.std[0]: -1",
        ),
        (
            "/preprocessing/mean/0",
            json!(1e300),
            "preprocessing.mean[0]: inf",
        ),
        ("/temperature", json!(0.0), "temperature: 0, expected"),
        (
            "/min_confidence",
            json!(1.5),
            "min_confidence: 1.5, expected 0 to 1",
        ),
        (
            "/kind",
            json!("collage"),
            "collage: nothing, expected stride and grids",
        ),
        (
            "/architecture/stem/kernel",
            json!(4),
            "architecture.stem.kernel: 4, expected an odd number",
        ),
        (
            "/architecture/stem/channels",
            json!(0),
            "architecture.stem.channels: 0",
        ),
        (
            "/architecture/stem/stride",
            json!(1000),
            "architecture.stem.stride: 1000",
        ),
        (
            "/architecture/stages/1/blocks",
            json!(u64::MAX),
            "architecture.stages[1].blocks: ",
        ),
        (
            "/architecture/stages/0/channels",
            json!(1u64 << 62),
            "architecture.stages[0].channels: ",
        ),
        ("/architecture/stages", json!([]), "architecture.stages: 0"),
    ];
    for (path, value, says) in cases {
        refuse(
            &described(|m| *m.pointer_mut(path).unwrap() = value),
            225,
            says,
        );
    }
    refuse(
        &described(|m| m["collage"] = json!({"stride": 2, "grids": ["1x1"]})),
        225,
        "collage: an object",
    );
    refuse(
        &edited(collage(), |m| m["collage"]["stride"] = json!(0)),
        225,
        "collage.stride: 0",
    );
    refuse(
        &edited(collage(), |m| m["collage"]["grids"] = json!([])),
        225,
        "collage.grids: an empty list",
    );
    refuse(
        &edited(collage(), |m| {
            m["architecture"]["stages"][1]["channels"] = json!(4)
        }),
        225,
        "expected projection",
    );
    refuse(
        &described(|m| m["architecture"] = json!({"family": "vit"})),
        226,
        "architecture vit: unknown",
    );
}

#[test]
fn damage_is_found_by_the_checksum() {
    let mut bytes = stored(|_| {});
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    refuse(&bytes, 228, "the file is damaged");
    refuse(&described(|m| m["sha256"] = json!("")), 228, "expected ");
}

#[test]
fn class_names_must_be_as_many_as_outputs() {
    refuse(
        &described(|m| m["classes"] = json!(["one"])),
        229,
        "1 class names for 3 outputs of fc",
    );
}

#[test]
fn tensors_must_be_those_of_the_architecture() {
    refuse(
        &stored(|t| t.retain(|t| t.name != "layer2.0.bn1.bias")),
        240,
        "tensor layer2.0.bn1.bias: missing, expected (16)",
    );
    refuse(
        &stored(|t| t.retain(|t| t.name != "fc.weight")),
        240,
        "tensor fc.weight: missing, expected (any, 16)",
    );
    let shaped = |name: &str, shape: &[usize]| {
        stored(|t| *find(t, name) = Stored::f32(name, shape, &vec![0.0; shape.iter().product()]))
    };
    refuse(
        &shaped("conv1.weight", &[8, 3, 3]),
        241,
        "tensor conv1.weight: shape (8, 3, 3), expected (8, 3, 3, 3)",
    );
    refuse(
        &shaped("conv1.weight", &[8, 4, 3, 3]),
        241,
        "shape (8, 4, 3, 3), expected (8, 3, 3, 3)",
    );
    refuse(
        &shaped("fc.weight", &[0, 16]),
        241,
        "shape (0, 16), expected (any, 16)",
    );
    refuse(
        &shaped("fc.bias", &[4]),
        241,
        "tensor fc.bias: shape (4), expected (3)",
    );
    refuse(
        &stored(|t| t.push(Stored::f32("fc2.weight", &[1], &[0.0]))),
        242,
        "no place for: fc2.weight",
    );
    let many = stored(|t| t.extend((0..20).map(|i| Stored::f32(format!("x{i:02}"), &[1], &[0.0]))));
    refuse(&many, 242, "x06, x07, ...");
    let count = |name: &str| Stored {
        name: name.into(),
        dtype: Storage::I64,
        shape: vec![],
        bytes: vec![0; 8],
    };
    open(&stored(|t| t.push(count("bn1.num_batches_tracked")))).unwrap();
    let wide: Vec<u8> = [0f64; 3].iter().flat_map(|v| v.to_le_bytes()).collect();
    let wide = Stored {
        name: "fc.bias".into(),
        dtype: Storage::F64,
        shape: vec![3],
        bytes: wide,
    };
    refuse(
        &stored(|t| *find(t, "fc.bias") = wide),
        212,
        "tensor fc.bias: dtype F64, expected F32, F16 or BF16",
    );
}

#[test]
fn weights_that_are_not_numbers_are_named_by_tensor_and_element() {
    for (value, says) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let bytes = stored(|t| {
            find(t, "layer1.0.conv2.weight").bytes[28..32].copy_from_slice(&value.to_le_bytes())
        });
        refuse(
            &bytes,
            243,
            &format!("tensor layer1.0.conv2.weight: element 7 is {says}"),
        );
    }
    let half = Stored::f16("fc.bias", &[3], &[0.0, 1e30, 0.0]);
    refuse(
        &stored(|t| *find(t, "fc.bias") = half),
        243,
        "tensor fc.bias: element 1 is inf",
    );
    let negative = stored(|t| {
        find(t, "bn1.running_var").bytes[8..12].copy_from_slice(&(-0.5f32).to_le_bytes())
    });
    refuse(
        &negative,
        244,
        "tensor bn1.running_var: element 2 is -0.5, expected a variance",
    );
}

#[test]
fn finite_parameters_that_fold_to_infinity_are_named_by_layer_and_channel() {
    let set = |t: &mut Vec<Stored>, name: &str, channel: usize, value: f32| {
        find(t, name).bytes[4 * channel..4 * channel + 4].copy_from_slice(&value.to_le_bytes());
    };
    let weight = stored(|t| {
        set(t, "bn1.weight", 5, f32::MAX);
        set(t, "bn1.running_var", 5, 0.0);
    });
    refuse(
        &weight,
        245,
        "layer conv1: folding bn1 into it overflows f32 at output channel 5",
    );
    let shift = stored(|t| {
        set(t, "bn1.weight", 1, 1e30);
        set(t, "bn1.running_mean", 1, 1e30);
    });
    refuse(&shift, 245, "at output channel 1");
}

#[test]
fn layer_lists_that_make_no_network_name_the_layer() {
    let weights = |names: &[&str]| -> Vec<Stored> {
        let conv = |name: &&str| Stored::f32(format!("{name}.weight"), &[3, 3, 3, 3], &[0.5; 81]);
        let mut stored: Vec<Stored> = names.iter().map(conv).collect();
        stored.push(Stored::f32("fc.weight", &[3, 3], &[1.0; 9]));
        stored
    };
    let list = |layers: Value, stored: &[Stored]| {
        let mut described = metadata(named(Named::ResNet20), 8, 3, None);
        described.architecture = layer_list(&layers.to_string());
        described.write(stored).unwrap()
    };
    let conv = |name: &str| json!({"op": "conv2d", "name": name, "padding": 1});
    let with = |mut layer: Value, field: &str, value: Value| {
        layer[field] = value;
        layer
    };
    let fc = || json!({"op": "linear", "name": "fc"});
    let a = weights(&["a"]);
    let ab = weights(&["a", "b"]);
    open(&list(json!([conv("a"), fc()]), &a)).unwrap();
    open(&list(json!([fc()]), &weights(&[]))).unwrap();

    refuse(
        &list(json!([conv("a"), conv("a"), fc()]), &a),
        260,
        "layer a: the name is taken",
    );
    refuse(
        &list(json!([conv("input"), fc()]), &a),
        260,
        "layer input: the name is taken",
    );
    refuse(
        &list(json!([conv("fc"), fc()]), &a),
        260,
        "layer fc: the name is taken",
    );
    refuse(
        &list(
            json!([with(conv("a"), "input", json!("b")), conv("b"), fc()]),
            &ab,
        ),
        261,
        "layer a: reads `b`",
    );
    refuse(
        &list(
            json!([with(conv("a"), "residual", json!({"layer": "a"})), fc()]),
            &a,
        ),
        261,
        "layer a: reads `a`",
    );
    refuse(
        &list(
            json!([conv("a"), with(conv("b"), "input", json!("input")), fc()]),
            &ab,
        ),
        262,
        "layer a: nothing reads it",
    );
    refuse(
        &list(json!([]), &[]),
        263,
        "layer input: expected one linear layer",
    );
    refuse(
        &list(json!([conv("a")]), &a),
        263,
        "layer a: expected one linear layer",
    );
    refuse(
        &list(json!([fc(), conv("a"), with(fc(), "name", json!("f"))]), &a),
        263,
        "layer fc: expected one linear",
    );
    refuse(
        &list(json!(vec![conv("a"); 5000]), &a),
        264,
        "more than 4096 layers",
    );
    refuse(
        &list(json!([with(conv("a"), "stride", json!(0)), fc()]), &a),
        265,
        "layer a: stride 0, expected 1 or more",
    );
    refuse(
        &list(json!([with(conv("a"), "padding", json!(3)), fc()]), &a),
        265,
        "layer a: padding 3, expected less than",
    );
    let twisted = with(conv("b"), "residual", json!({"layer": "a", "stride": 0}));
    refuse(
        &list(json!([conv("a"), twisted, fc()]), &ab),
        265,
        "layer b: residual.stride 0",
    );
    let pool = |kernel: usize, stride: usize, padding: usize| json!({"op": "max_pool2d", "name": "p", "kernel": kernel, "stride": stride, "padding": padding});
    refuse(
        &list(json!([pool(0, 1, 0), fc()]), &weights(&[])),
        265,
        "layer p: kernel 0",
    );
    refuse(
        &list(json!([pool(2, 0, 0), fc()]), &weights(&[])),
        265,
        "layer p: stride 0",
    );
    refuse(
        &list(json!([pool(3, 1, 2), fc()]), &weights(&[])),
        265,
        "layer p: padding 2, expected half the kernel",
    );
    refuse(
        &list(json!([pool(9, 1, 0), fc()]), &weights(&[])),
        266,
        "layer p: a window of 9 on an input of 8",
    );
    refuse(
        &list(
            json!([pool(usize::MAX, 1, usize::MAX / 2), fc()]),
            &weights(&[]),
        ),
        266,
        "layer p",
    );
    let halved = with(
        with(conv("b"), "stride", json!(2)),
        "residual",
        json!({"layer": "a"}),
    );
    refuse(
        &list(json!([conv("a"), halved, fc()]), &ab),
        267,
        "layer b: shortcut a, (H, W, C) (8, 8, 3), does not fit output (4, 4, 3)",
    );
    let shifted = with(
        conv("b"),
        "residual",
        json!({"layer": "a", "channel_offset": u64::MAX}),
    );
    refuse(
        &list(json!([conv("a"), shifted, fc()]), &ab),
        267,
        "layer b: shortcut a",
    );
    refuse(
        &list(json!([with(conv("a"), "channels", json!(4)), fc()]), &a),
        241,
        "expected (4, 3, any, any)",
    );
    refuse(
        &list(json!([with(conv("a"), "kernel", json!(0)), fc()]), &a),
        241,
        "expected (any, 3, 0, 0)",
    );
}

#[test]
fn collages_whose_cells_leave_their_tiles_are_refused() {
    refuse(
        &edited(
            collage(),
            |m| m["preprocessing"] = json!({"resize": 9, "size": 9, "filter": "bilinear", "mean": [0, 0, 0], "std": [1, 1, 1]}),
        ),
        280,
        "tile 9: not a multiple of stride 2",
    );
    refuse(
        &edited(collage(), |m| m["collage"]["stride"] = json!(4)),
        282,
        "collage.stride 4, but the network's layers multiply to 2",
    );
    // Without padding, a 3x3 window eats into the next tile.
    let mut described = metadata(
        layer_list(
            r#"[{"op": "conv2d", "name": "a", "channels": 3, "kernel": 3}, {"op": "linear", "name": "fc"}]"#,
        ),
        8,
        3,
        None,
    );
    let stored = tensors(&described.architecture, 3);
    open(&described.write(&stored).unwrap()).unwrap();
    described.kind = Kind::Collage;
    described.collage = Some(CollageSpec {
        stride: 1,
        grids: grids("2x2"),
    });
    refuse(
        &described.write(&stored).unwrap(),
        281,
        "layer a: kernel 3, stride 1, padding 0 moves cells across tiles",
    );
}

#[test]
fn codes_of_model_errors_are_within_the_rooms_hundred() {
    let error = open(b"").unwrap_err();
    assert!((200..300).contains(&error.code()));
    assert!(std::error::Error::source(&error).is_some());
}
