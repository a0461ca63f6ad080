//! The cards of the shipped CIFAR-10 models, `weights/cifar10-*.md`, say what the files beside them hold. That the files
//! answer as the cards say takes CIFAR-10 itself: `tests/cli_thirdparty.rs`.

use collage::model::Model;

mod cli_support;
use cli_support::{card, card_row, grouped, json, shipped};

const MODELS: [&str; 3] = [
    "cifar10-base",
    "cifar10-collage-standard",
    "cifar10-collage-small",
];
const MOST_BYTES: u64 = 20_000_000;

#[test]
fn cards_state_size_and_cost() {
    for name in MODELS {
        let path = shipped(&format!("weights/{name}.safetensors"));
        let file = path.display().to_string();
        let grid: &[&str] = match name {
            "cifar10-base" => &[],
            _ => &["--grid", "1x1"],
        };
        let summary = json(&[&["inspect", &file], grid].concat());
        let millions = summary["macs"].as_u64().expect("a count") as f64 / 1e6;
        let card = card(name);
        assert!(
            card.contains(&format!("{millions:.1} million multiply-accumulates")),
            "{name}: {millions}"
        );
        let params = grouped(summary["params"].as_u64().expect("a count"));
        assert!(
            card.contains(&format!(" {params} parameters")),
            "{name}: {params}"
        );
        let bytes = grouped(std::fs::metadata(&path).expect("the model").len());
        assert!(card.contains(&format!(" {bytes} bytes")), "{name}: {bytes}");
    }
}

#[test]
fn cards_state_what_the_metadata_says() {
    for name in MODELS {
        // Opening checks the metadata and the SHA-256 of the weights.
        let model = Model::open(shipped(&format!("weights/{name}.safetensors"))).expect("sound");
        let (about, card) = (model.metadata(), card(name));
        assert_eq!(model.name(), name);
        assert!(card.contains(&format!("temperature {}", about.temperature)));
        assert!(card.contains(about.licence.as_deref().expect("a licence")));
        let base = about.accuracy["base"];
        if name == "cifar10-base" {
            assert!(card.contains(&format!("{base:.4}; ")), "{base}");
            continue;
        }
        assert!(card.contains(&format!("The base: {base:.4}")), "{base}");
        assert!(card.contains(&format!("`min_confidence` {}", about.min_confidence)));
        assert_eq!(model.grids().len(), 25);
        for grid in model.grids() {
            let grid = grid.to_string();
            let stated = card_row(name, &grid)[4];
            let held = about.accuracy[&grid];
            assert!(
                (stated - held).abs() < 1e-9,
                "{name} {grid}: {stated} {held}"
            );
        }
    }
}

#[test]
fn shipped_weights_stay_small() {
    let files = std::fs::read_dir(shipped("weights")).expect("the folder");
    let sizes = files.map(|file| file.expect("a file").metadata().expect("its size").len());
    assert!(sizes.sum::<u64>() < MOST_BYTES);
}
