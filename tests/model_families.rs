//! Claims about whole families: published work and parameters, and plans of any residual network.

mod model_support;
mod skip;

use collage::model::Model;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::metadata::{Architecture, CollageSpec};
use collage::model::plan::Step;
use collage::model::resnet::{self, HeadName, Named, ResNet, ShortcutKind, Stage, Stem};
use collage::model::summary::Summary;
use model_support::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

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
        let Some(path) = skip::shared(
            &format!("third-party-weights/{name}.safetensors"),
            "third-party weights load by their architecture's name",
        ) else {
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
        let model = model(&metadata(Architecture::ResNet(resnet), size, 5, None));
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
        let model = model(&metadata(Architecture::ResNet(resnet), size, 2, Some(spec)));
        let plan = compile(&model, PlanOptions { grid: grid(rows, cols), ..PlanOptions::default() });
        let pool = plan.steps.iter().find_map(|s| if let Step::AvgPool2d(p) = s { Some(p.kernel) } else { None });
        prop_assert_eq!(pool, Some([cells, cells]));
    }
}
