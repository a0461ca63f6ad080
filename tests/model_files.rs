//! Claims about the container: what is written is read back, and a header that does not fit its file is refused with
//! the file and the tensor named.

mod model_support;

use std::collections::{BTreeMap, HashMap};

use collage::error::Classify;
use collage::model::file::{self, Container, Storage, Stored};
use collage::model::metadata::KEY;
use collage::model::plan::Filter;
use collage::model::{Fault, Model};
use model_support::lies::*;

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
