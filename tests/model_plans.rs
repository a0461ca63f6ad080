//! Claims about plans: shapes, steps, work, and where values live.

mod model_support;

use collage::model::Model;
use collage::model::compile::PlanOptions;
use collage::model::plan::{Grid, Plan};
use collage::model::resnet::Named;
use collage::model::summary::Summary;
use model_support::*;

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
        let plan = Plan::compile(&model, &PlanOptions::default()).unwrap();
        let summary = Summary::new(&model, &plan, Grid::ONE);
        let close = (summary.macs as f64 / macs - 1.0).abs() < 3e-4;
        assert!(
            close,
            "{}: {} MACs, published {macs}",
            family.name(),
            summary.macs
        );
        assert_eq!(summary.params, params, "{}", family.name());
    }
}

#[test]
fn third_party_weights_load_by_their_architectures_name() {
    // Folding leaves one of the two numbers that batch normalisation learns for each of 688 and 1136 channels.
    for (name, bytes_of_weights) in [
        ("resnet20", (269_722 - 688) * 4),
        ("resnet32", (464_154 - 1136) * 4),
    ] {
        let Some(path) = shared(&format!("third-party-weights/{name}.safetensors")) else {
            continue;
        };
        let model = Model::open_with_arch(&path, name).unwrap();
        assert_eq!(model.classes()[3], "cat");
        assert_eq!(
            (model.preprocessing().resize, model.preprocessing().size),
            (32, 32)
        );
        let plan = Plan::compile(
            &model,
            &PlanOptions {
                batch: 64,
                ..PlanOptions::default()
            },
        )
        .unwrap();
        let summary = Summary::new(&model, &plan, Grid::ONE);
        assert_eq!(summary.weight_bytes, bytes_of_weights);
        assert!(
            Model::open(&path)
                .unwrap_err()
                .to_string()
                .contains("--arch")
        );
    }
}
