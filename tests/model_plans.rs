//! Claims about plans: shapes, steps, work, and where values live.

mod model_support;

use std::sync::Arc;

use collage::error::Classify;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::plan::{Grid, Plan, Step};
use collage::model::resnet::{self, Named, ShortcutKind};
use collage::model::summary::Summary;
use collage::model::{Fault, Model};
use collage::tensor::DType;
use model_support::*;

#[test]
fn a_base_plan_goes_from_images_to_classes() {
    let mut described = metadata(named(Named::ResNet20), 32, 10, None);
    described.temperature = 1.5;
    let model = model(&described);
    let plan = compile(
        &model,
        PlanOptions {
            batch: 4,
            output: PlanOutput::TopK(3),
            ..PlanOptions::default()
        },
    );
    let ops: Vec<_> = plan.steps.iter().map(Step::op).collect();
    // Option-A shortcuts cost no step: 19 convolutions, and what stands around them.
    assert_eq!(ops.iter().filter(|op| **op == "conv2d").count(), 19);
    assert_eq!(
        (ops[0], &ops[20..]),
        ("encode", &["avg_pool2d", "linear", "top_k"][..])
    );
    assert_eq!(plan.values[0].shape, [4, 32, 32, 3]);
    assert_eq!(plan.values.last().unwrap().shape, [4, 1, 1, 10]);
    assert_eq!(plan.capacity(), 4);
    let Some(Step::TopK(top)) = plan.steps.last() else {
        panic!("no top_k")
    };
    assert_eq!((top.k, top.temperature), (3, 1.5));
    let Step::Encode(encode) = plan.steps[0] else {
        panic!("no encode")
    };
    assert_eq!(
        (encode.preprocessing, encode.grid),
        (*model.preprocessing(), Grid::ONE)
    );
}

#[test]
fn option_a_shortcuts_subsample_and_shift_channels() {
    let plan = compile(&named_model(Named::ResNet20, 10), PlanOptions::default());
    let residuals = plan.steps.iter().filter_map(|s| match s {
        Step::Conv2d(c) => c
            .residual
            .map(|r| (r.stride, r.channel_offset, plan.values[r.value.0].shape[3])),
        _ => None,
    });
    let expected = [
        (1, 0, 16),
        (1, 0, 16),
        (1, 0, 16),
        (2, 8, 16),
        (1, 0, 32),
        (1, 0, 32),
        (2, 16, 32),
        (1, 0, 64),
        (1, 0, 64),
    ];
    assert_eq!(residuals.collect::<Vec<_>>(), expected);
}

#[test]
fn an_ordinary_shortcut_that_is_read_last_gives_its_place_to_the_output() {
    let plan = compile(&named_model(Named::ResNet50, 4), PlanOptions::default());
    for step in &plan.steps {
        let Step::Conv2d(conv) = step else { continue };
        let Some(residual) = conv.residual else {
            continue;
        };
        // ResNet-50's are all ordinary: identities, or projections of the output's shape.
        assert_eq!(plan.values[conv.output.0], plan.values[residual.value.0]);
        assert_ne!(
            plan.values[conv.output.0].offset,
            plan.values[conv.input.0].offset
        );
    }
}

#[test]
fn plans_without_encode_or_top_k_begin_and_end_with_tensors() {
    let model = collage_model(8, "3x3");
    let options = PlanOptions {
        batch: 2,
        grid: grid(3, 2),
        input: PlanInput::Tensor,
        output: PlanOutput::Logits,
        ..PlanOptions::default()
    };
    let plan = compile(&model, options);
    assert_eq!(
        (plan.steps[0].op(), plan.steps.last().unwrap().op()),
        ("conv2d", "linear")
    );
    assert_eq!(plan.values[0].shape, [2, 24, 16, 3]);
    assert_eq!(plan.values.last().unwrap().shape, [2, 3, 2, 3]);
}

#[test]
fn one_collage_file_takes_every_grid_that_fits_the_trained_ones() {
    let model = collage_model(12, "1x1,3x3,2x5");
    for rows in 1..=6 {
        for cols in 1..=6 {
            let asked = grid(rows, cols);
            let plan = Plan::compile(
                &model,
                &PlanOptions {
                    batch: 2,
                    grid: asked,
                    ..PlanOptions::default()
                },
            );
            let fits = (rows <= 3 && cols <= 3) || (rows <= 2 && cols <= 5);
            assert_eq!(plan.is_ok(), fits, "{asked}");
            assert_eq!(model.takes(asked), fits);
            match plan {
                Ok(plan) => {
                    plan.check().unwrap();
                    assert_eq!(plan.values[0].shape, [2, rows * 12, cols * 12, 3]);
                    assert_eq!(plan.values.last().unwrap().shape, [2, rows, cols, 3]);
                    let pool = plan.steps.iter().find_map(|s| {
                        if let Step::AvgPool2d(p) = s {
                            Some(p)
                        } else {
                            None
                        }
                    });
                    assert_eq!(pool.unwrap().kernel, [6, 6]);
                    assert_eq!(plan.capacity(), 2 * rows * cols);
                }
                Err(e) => {
                    assert!(matches!(e.fault, Fault::GridNotTaken { grid, .. } if grid == asked));
                    assert!(e.to_string().contains(&format!("--grid {asked}")), "{e}");
                    assert!(
                        e.to_string()
                            .ends_with("any grid that fits into 2x5 or 3x3"),
                        "{e}"
                    );
                    assert_eq!((e.code(), e.can_retry()), (283, false));
                }
            }
        }
    }
}

#[test]
fn a_base_model_takes_one_image_a_canvas() {
    let error = Plan::compile(
        &named_model(Named::ResNet20, 10),
        &PlanOptions {
            grid: grid(2, 2),
            ..Default::default()
        },
    );
    let message = error.unwrap_err().to_string();
    assert_eq!(
        message,
        "named.safetensors: --grid 2x2: the model takes 1x1, being a base model"
    );
}

#[test]
fn an_empty_grid_is_not_taken() {
    let model = collage_model(8, "2x2");
    for asked in [
        grid(0, 0),
        grid(0, 1),
        grid(1, 0),
        grid(usize::MAX, usize::MAX),
    ] {
        let error = Plan::compile(
            &model,
            &PlanOptions {
                grid: asked,
                ..PlanOptions::default()
            },
        )
        .unwrap_err();
        assert!(matches!(error.fault, Fault::GridNotTaken { .. }));
    }
}

#[test]
fn all_plans_of_a_model_share_its_weights() {
    let model = collage_model(8, "3x3");
    let one = compile(&model, PlanOptions::default());
    let other = compile(
        &model,
        PlanOptions {
            batch: 7,
            grid: grid(3, 3),
            ..PlanOptions::default()
        },
    );
    assert!(Arc::ptr_eq(&one.weights, &other.weights));
    assert!(Arc::ptr_eq(model.clone().weights(), &one.weights));
}

#[test]
fn absurd_requests_are_errors() {
    let model = collage_model(8, "2x2");
    let fault = |options: PlanOptions| Plan::compile(&model, &options).unwrap_err().fault;
    let with = PlanOptions::default();
    assert!(matches!(
        fault(PlanOptions { batch: 0, ..with }),
        Fault::EmptyBatch
    ));
    for batch in [
        usize::MAX,
        usize::MAX / 2,
        usize::MAX / 1000,
        isize::MAX as usize / 4000,
    ] {
        let found = fault(PlanOptions { batch, ..with });
        assert!(
            matches!(
                found,
                Fault::PlanTooLarge {
                    height: 8,
                    width: 8,
                    ..
                }
            ),
            "{batch}: {found}"
        );
    }
    for k in [0, 4, usize::MAX] {
        let found = fault(PlanOptions {
            output: PlanOutput::TopK(k),
            ..with
        });
        assert!(matches!(found, Fault::TopOutOfRange { classes: 3, .. }));
    }
}

#[test]
fn parameters_beyond_f16_are_refused_in_f16_only() {
    let described = metadata(
        small(resnet::Block::Basic, ShortcutKind::Pad, true),
        16,
        3,
        None,
    );
    let mut stored = tensors(&described.architecture, 3);
    let norm = stored
        .iter_mut()
        .find(|t| t.name == "layer2.1.bn2.weight")
        .unwrap();
    norm.bytes[..4].copy_from_slice(&1e6f32.to_le_bytes());
    let model = Model::from_bytes("hot.safetensors", &described.write(&stored).unwrap()).unwrap();
    assert!(Plan::compile(&model, &PlanOptions::default()).is_ok());
    let error = Plan::compile(
        &model,
        &PlanOptions {
            dtype: DType::F16,
            ..PlanOptions::default()
        },
    )
    .unwrap_err();
    assert!(
        matches!(&error.fault, Fault::BeyondDType { layer, .. } if layer == "layer2.1.conv2"),
        "{error}"
    );
}

#[test]
fn f16_halves_the_arena() {
    let model = collage_model(8, "2x2");
    let wide = compile(&model, PlanOptions::default());
    let narrow = compile(
        &model,
        PlanOptions {
            dtype: DType::F16,
            ..PlanOptions::default()
        },
    );
    assert_eq!(wide.arena_bytes(), 2 * narrow.arena_bytes());
}

#[test]
fn a_summary_names_every_step_and_serialises() {
    let model = collage_model(8, "2x2");
    let summary = Summary::new(
        &model,
        &PlanOptions {
            grid: grid(2, 2),
            ..PlanOptions::default()
        },
    )
    .unwrap();
    let names: Vec<_> = summary
        .layers
        .iter()
        .map(|l| (l.name.as_str(), l.op))
        .collect();
    assert_eq!(
        names[..3],
        [
            ("encode", "encode"),
            ("conv1", "conv2d"),
            ("layer1.0.conv1", "conv2d")
        ]
    );
    assert_eq!(
        names[names.len() - 3..],
        [
            ("avg_pool2d", "avg_pool2d"),
            ("fc", "linear"),
            ("top_k", "top_k")
        ]
    );
    // conv1: 16x16 pixels, 8 outputs, 3x3x3 inputs each; 216 weights and 8 channels normalised by two numbers.
    assert_eq!(
        (summary.layers[1].macs, summary.layers[1].params),
        (16 * 16 * 8 * 27, 216 + 16)
    );
    assert_eq!(summary.layers[3].residual.as_deref(), Some("conv1"));
    assert_eq!(summary.layers.last().unwrap().output, [1, 2, 2, 1]);
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["metadata"]["collage"]["grids"][0], "2x2");
    assert_eq!(json["macs"], summary.macs);
}
