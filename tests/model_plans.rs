//! Claims about plans: shapes, steps, work, and where values live.

mod model_support;

use std::sync::Arc;

use collage::error::Classify;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::metadata::CollageSpec;
use collage::model::plan::{ARENA_ALIGN, Grid, Plan, Step};
use collage::model::resnet::{self, HeadName, Named, ResNet, ShortcutKind, Stage, Stem};
use collage::model::summary::Summary;
use collage::model::{Fault, Model};
use collage::tensor::DType;
use model_support::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn grid(rows: usize, cols: usize) -> Grid {
    Grid { rows, cols }
}

fn compile(model: &Model, options: PlanOptions) -> Plan {
    let plan = Plan::compile(model, &options).unwrap();
    plan.check().unwrap();
    plan
}

/// The most elements that are alive at one step, counted from the plan alone: a value is alive from the step that
/// writes it to the last that reads it, and a value in its shortcut's place does not count beside it.
fn most_alive(plan: &Plan) -> usize {
    let len = |v: usize| plan.values[v].len().next_multiple_of(ARENA_ALIGN);
    let written = |v: usize| {
        plan.steps
            .iter()
            .position(|s| s.writes().is_some_and(|w| w.0 == v))
            .unwrap_or(0)
    };
    let last_read = |v: usize| {
        plan.steps
            .iter()
            .rposition(|s| s.reads().any(|r| r.0 == v))
            .unwrap_or(usize::MAX)
    };
    let spans: Vec<_> = (0..plan.values.len())
        .map(|v| (written(v), last_read(v), len(v)))
        .collect();
    let at_step = |(at, step): (usize, &Step)| {
        let alive: usize = spans
            .iter()
            .filter(|s| s.0 <= at && at <= s.1)
            .map(|s| s.2)
            .sum();
        let shared = step.writes().is_some_and(|out| {
            step.reads()
                .any(|r| plan.values[r.0] == plan.values[out.0] && spans[r.0].1 == at)
        });
        alive
            - if shared {
                spans[step.writes().unwrap().0].2
            } else {
                0
            }
    };
    plan.steps.iter().enumerate().map(at_step).max().unwrap()
}

#[test]
fn work_and_parameters_of_named_networks_are_the_published_ones() {
    // (MACs of convolutions and head, parameters): torchvision's model pages (GFLOPS, params) for ImageNet's; for
    // CIFAR-10's, akamaster/pytorch_resnet_cifar10's parameters, and convolutions plus head worked out by hand.
    let published = [
        (Named::ResNet18, 1000, 1.814e9, 11_689_512),
        (Named::ResNet34, 1000, 3.664e9, 21_797_672),
        (Named::ResNet50, 1000, 4.089e9, 25_557_032),
        (Named::ResNet101, 1000, 7.801e9, 44_549_160),
        (Named::ResNet20, 10, 40.55e6, 269_722),
        (Named::ResNet32, 10, 68.86e6, 464_154),
        (Named::ResNet44, 10, 97.17e6, 658_586),
        (Named::ResNet56, 10, 125.49e6, 853_018),
        (Named::ResNet110, 10, 252.89e6, 1_727_962),
    ];
    for (family, classes, macs, params) in published {
        let model = named_model(family, classes);
        let summary = Summary::new(&model, &PlanOptions::default()).unwrap();
        let close = (summary.macs as f64 / macs - 1.0).abs() < 3e-4;
        assert!(
            close,
            "{}: {} MACs, published {macs}",
            family.name(),
            summary.macs
        );
        assert_eq!(summary.params, params, "{}", family.name());

        // The same models, because making them is most of the time: their arenas.
        for batch in [1, 8, 64] {
            let plan = compile(
                &model,
                PlanOptions {
                    batch,
                    ..PlanOptions::default()
                },
            );
            let bound = most_alive(&plan);
            println!(
                "{} x {batch}: arena {} of {bound} elements",
                family.name(),
                plan.arena_len
            );
            assert_eq!(plan.arena_len, bound, "{}", family.name());
        }
    }
}

#[test]
fn third_party_weights_load_by_their_architectures_name() {
    // Folding leaves one of the two numbers that batch normalisation learns for each of 688 and 1136 channels.
    let sizes = [
        ("resnet20", (269_722 - 688) * 4),
        ("resnet32", (464_154 - 1136) * 4),
    ];
    for (name, weight_bytes) in sizes {
        let Some(path) = shared(&format!("third-party-weights/{name}.safetensors")) else {
            continue;
        };
        let model = Model::open_with_arch(&path, name).unwrap();
        assert_eq!(model.classes()[3], "cat");
        assert_eq!(
            (model.preprocessing().resize, model.preprocessing().size),
            (32, 32)
        );
        let summary = Summary::new(
            &model,
            &PlanOptions {
                batch: 64,
                ..PlanOptions::default()
            },
        )
        .unwrap();
        assert_eq!(summary.weight_bytes, weight_bytes);
        assert!(
            Model::open(&path)
                .unwrap_err()
                .to_string()
                .contains("--arch")
        );
    }
}

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
        matches!(&error.fault, Fault::BeyondF16 { layer, .. } if layer == "layer2.1.conv2"),
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

/// Any residual network of a sensible size, at a size that its strides may or may not divide.
fn any_resnet() -> impl Strategy<Value = (ResNet, usize)> {
    let stage = (1..3usize, 1..24usize, 1..3usize);
    let stages = prop::collection::vec(stage, 1..4);
    (
        any::<[bool; 4]>(),
        (1..24usize, 0..3usize, 1..3usize),
        stages,
        16..40usize,
    )
        .prop_map(|(flags, stem, stages, size)| {
            let [bottleneck, pad, max_pool, fc] = flags;
            let block = if bottleneck {
                resnet::Block::Bottleneck
            } else {
                resnet::Block::Basic
            };
            let mut widest = stem.0;
            let stages = stages.into_iter().map(|(blocks, channels, stride)| {
                // Option A can only widen.
                widest = if pad { widest.max(channels) } else { channels };
                Stage {
                    blocks,
                    channels: widest,
                    stride,
                }
            });
            let resnet = ResNet {
                block,
                stem: Stem {
                    channels: stem.0,
                    kernel: 2 * stem.1 + 1,
                    stride: stem.2,
                    max_pool,
                },
                stages: stages.collect(),
                shortcut: if pad {
                    ShortcutKind::Pad
                } else {
                    ShortcutKind::Projection
                },
                head: if fc { HeadName::Fc } else { HeadName::Linear },
            };
            (resnet, size)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, rng_seed: RngSeed::Fixed(2), ..ProptestConfig::default() })]

    #[test]
    fn any_residual_network_compiles_to_a_plan_that_keeps_its_promises(
        (resnet, size) in any_resnet(), batch in 1..5usize, tensor in any::<bool>(), logits in any::<bool>(),
    ) {
        let model = model(&metadata(collage::model::metadata::Architecture::ResNet(resnet), size, 5, None));
        let plan = compile(&model, PlanOptions {
            batch,
            input: if tensor { PlanInput::Tensor } else { PlanInput::Images },
            output: if logits { PlanOutput::Logits } else { PlanOutput::TopK(5) },
            ..PlanOptions::default()
        });
        let bound = most_alive(&plan);
        prop_assert!(plan.arena_len >= bound);
        prop_assert!(plan.arena_len * 100 <= bound * 110, "arena {} of {bound}", plan.arena_len);
    }

    #[test]
    fn any_collage_network_keeps_cells_to_tiles_in_every_grid(
        (resnet, _) in any_resnet(), cells in 1..5usize, rows in 1..6usize, cols in 1..6usize,
    ) {
        let strides = resnet.stages.iter().map(|s| s.stride).product::<usize>() * resnet.stem.stride;
        // A 1x1 convolution of stride 2 skips every other row: such a stem is exact too.
        let stride = strides * if resnet.stem.max_pool { 2 } else { 1 };
        let spec = CollageSpec { stride, grids: vec![grid(5, 5)] };
        let size = stride * cells;
        let model = model(&metadata(collage::model::metadata::Architecture::ResNet(resnet), size, 2, Some(spec)));
        let plan = compile(&model, PlanOptions { grid: grid(rows, cols), ..PlanOptions::default() });
        let pool = plan.steps.iter().find_map(|s| if let Step::AvgPool2d(p) = s { Some(p.kernel) } else { None });
        prop_assert_eq!(pool, Some([cells, cells]));
    }
}
