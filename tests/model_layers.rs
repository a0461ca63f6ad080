//! Claims about tensors and layers that do not make a network: each is refused with the tensor or layer named.

mod model_support;

use collage::model::Kind;
use collage::model::file::{Storage, Stored};
use collage::model::metadata::CollageSpec;
use collage::model::resnet::Named;
use model_support::lies::*;
use model_support::*;
use serde_json::{Value, json};

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
