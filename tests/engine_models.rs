//! The engine over real models on this processor: the embedded digits.

use collage::backend::{self, Device};
use collage::config::{Layer, Settings};
use collage::engine::{Engine, Error, Options, Policy, RequestOptions, Source};
use collage::error::Classify;
use collage::image::Image;
use collage::model::Model;
use collage::model::file::Container;
use collage::model::plan::Grid;
use std::sync::Arc;
use std::time::Duration;

fn weights(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("weights")
        .join(name)
}

fn cpu() -> Arc<dyn Device> {
    backend::open(&"cpu:1".parse().expect("a device")).expect("opens")
}

fn options() -> Options {
    let base = Model::open(weights("digits-base.safetensors")).expect("base");
    let mut options = Options::new(base, vec![cpu()]);
    options.collage = Some(Model::open(weights("digits-collage.safetensors")).expect("collage"));
    options.deadline = Duration::from_secs(600); // whatever else this machine does
    options
}

/// Held-out digits and their labels.
fn digits(count: usize) -> Vec<(Image, u8)> {
    let bytes = std::fs::read(weights("digits.safetensors")).expect("digits");
    let container = Container::parse(&bytes).expect("a container");
    let tensor = |name| container.tensor(name).expect("a tensor").bytes;
    let (images, labels, split) = (tensor("images"), tensor("labels"), tensor("split"));
    let held_out = (0..labels.len()).filter(|&i| split[i] == 1);
    let digit = |i: usize| {
        let grey = &images[i * 64..][..64];
        let rgb: Vec<u8> = grey.iter().flat_map(|&g| [g, g, g]).collect();
        (Image::from_rgb(8, 8, rgb).expect("8x8"), labels[i])
    };
    held_out.take(count).map(digit).collect()
}

/// How many are right, and how many a collage answered.
fn score(engine: &Engine, digits: &[(Image, u8)]) -> (usize, usize) {
    let submit = |(image, _): &(Image, u8)| {
        engine
            .submit(image.clone(), RequestOptions::default())
            .expect("accepted")
    };
    let tickets: Vec<_> = digits.iter().map(submit).collect();
    let (mut right, mut by_collage) = (0, 0);
    for (ticket, (_, label)) in tickets.into_iter().zip(digits) {
        let answer = ticket.wait().expect("answered");
        right += usize::from(answer.top[0].class == u32::from(*label));
        by_collage += usize::from(answer.source == Source::Collage);
    }
    (right, by_collage)
}

#[test]
fn the_base_knows_the_digits() {
    let engine = Engine::open(Options {
        policy: Policy::None,
        ..options()
    })
    .expect("opens");
    let digits = digits(180);
    let (right, by_collage) = score(&engine, &digits);
    assert!(right >= 171, "{right} of 180 right");
    assert_eq!(by_collage, 0);
}

#[test]
fn a_stopped_base_leaves_the_digits_to_the_collage_which_knows_them_too() {
    let engine = Engine::open(Options {
        release: Duration::ZERO,
        min_confidence: Some(0.0),
        group_wait: Duration::from_secs(600),
        // Injected: the only base worker stands still from its first run on.
        stragglers: vec!["pause:0:3600000".parse().expect("valid")],
        ..options()
    })
    .expect("opens");
    let digits = digits(180);
    let (right, by_collage) = score(&engine, &digits);
    assert!(right >= 167, "{right} of 180 right");
    assert_eq!(by_collage, 180);
}

#[test]
fn an_answer_has_as_many_classes_as_asked_for_and_as_there_are() {
    for (top_k, expected) in [(1, 1), (3, 3), (1000, 10)] {
        let engine = Engine::open(Options { top_k, ..options() }).expect("opens");
        let (image, _) = digits(1).remove(0);
        let answer = engine.classify(image).expect("answered");
        assert_eq!(answer.top.len(), expected);
        assert!(answer.top.windows(2).all(|w| w[0].score >= w[1].score));
    }
}

#[test]
fn models_that_do_not_belong_together_are_refused() {
    let base = options().base;
    let wrong = |options| Engine::open(options).expect_err("refused");

    let error = wrong(Options {
        collage: Some(base),
        ..options()
    });
    assert!(
        matches!(error, Error::Model(_)) && error.code() / 100 == 2,
        "{error}"
    );

    let grid = Grid {
        rows: 300,
        cols: 300,
    };
    let error = wrong(Options { grid, ..options() });
    assert!(matches!(error, Error::Model(_)), "{error}");
}

#[test]
fn numbers_that_cannot_be_are_refused_by_name() {
    let wrong = |options| {
        let error = Engine::open(options).expect_err("refused");
        assert_eq!(error.code(), 410);
        error.to_string()
    };
    let max_batch = Options {
        max_batch: 0,
        ..options()
    };
    assert_eq!(wrong(max_batch), "option max_batch: 0; expected 1 to 4096");
    let top_k = Options {
        top_k: 0,
        ..options()
    };
    assert_eq!(wrong(top_k), "option top_k: 0; expected 1 or more");
    let workers = Options {
        base_workers: usize::MAX,
        ..options()
    };
    assert!(wrong(workers).starts_with("option base_workers: "));
}

#[test]
fn settings_open_the_models_and_the_device_that_they_name() {
    let layer = Layer {
        model: Some(weights("digits-base.safetensors")),
        collage: Some(weights("digits-collage.safetensors")),
        device: Some("cpu:1".parse().expect("a device")),
        grid: Some("2x2".parse().expect("a grid")),
        top: Some(2),
        ..Layer::default()
    };
    let settings = Settings::resolve(layer.clone()).expect("valid");
    let options = settings
        .options(|| panic!("a model is named"))
        .expect("opens");
    assert_eq!((options.grid.tiles(), options.top_k), (4, 2));
    let engine = Engine::open(options).expect("opens");
    let (image, label) = digits(1).remove(0);
    let answer = engine.classify(image).expect("answered");
    assert_eq!(answer.top[0].class, u32::from(label));

    let late = Layer {
        release: Some(Duration::from_secs(2)),
        ..layer
    };
    let error = Settings::resolve(late)
        .expect("valid")
        .options(|| panic!("a model is named"))
        .expect_err("no collage could answer");
    assert_eq!(error.code(), 506);
}
