//! Claims about what a file says of itself, and about files that say nothing: every field that is wrong is named.

mod model_support;

use std::collections::BTreeMap;

use collage::error::Classify;
use collage::model::file::{self, Storage, Stored};
use collage::model::metadata::{FORMAT, KEY};
use collage::model::plan::Filter;
use collage::model::resnet::Named;
use collage::model::{Kind, Model};
use model_support::lies::*;
use model_support::*;
use serde_json::{Value, json};

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
        "collage.grids: a list of 0, expected 1 to 1024 grids",
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
