//! Claims about settings: what wins over what, and what is refused in which words.

use super::*;
use crate::error::Classify;
use clap::Parser;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    layer: Layer,
}

fn flags(args: &[&str]) -> Layer {
    Command::parse_from(std::iter::once(&"collage").chain(args)).layer
}

fn parse(toml: &str) -> Result<Layer, ConfigError> {
    Layer::parse("collage.toml", toml)
}

const FULL: &str = r#"
    model = "base.safetensors"
    arch = "resnet20"
    collage = "collage.safetensors"
    parity = "parity.safetensors"
    grid = "2x3"
    grids = ["1x1", "2x2"]
    device = "cpu:2"
    workers = 4
    collage_workers = 2
    policy = "collage:2x2:lazy:p90"
    budget = 0.125
    accuracy_budget = 0.001
    accuracy_drop = 0.02
    objective = "p99=50ms"
    queue = 10
    max_batch = 16
    batch_wait = "250us"
    group_wait = "1.5ms"
    release = "20ms"
    deadline = "2s"
    min_confidence = 0.75
    top = 3
    stragglers = ["slow:0:8:0.1", "pause:1:50"]
    telemetry = false
    seed = 7
    attach = "off"
"#;

#[test]
fn the_file_and_the_flags_say_the_same_things() {
    let args = "--model base.safetensors --arch resnet20 --collage collage.safetensors --parity parity.safetensors \
                --grid 2x3 --grids 1x1,2x2 --device cpu:2 --workers 4 --collage-workers 2 --policy collage:2x2:lazy:p90 \
                --budget 0.125 --accuracy-budget 0.001 --accuracy-drop 0.02 --objective p99=50ms --queue 10 --max-batch 16 \
                --batch-wait 250us \
                --group-wait 1.5ms --release 20ms --deadline 2s --min-confidence 0.75 --top 3 \
                --stragglers slow:0:8:0.1 --stragglers pause:1:50 --telemetry false --seed 7 --attach off";
    let args: Vec<&str> = args.split_whitespace().collect();
    assert_eq!(parse(FULL).expect("valid"), flags(&args));
    let written = parse(FULL).expect("valid").flags();
    let words = written
        .iter()
        .flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(flags(&words), parse(FULL).expect("valid"));
    // Every key stands in FULL, so that none is forgotten in this test.
    let table: toml::Table = FULL.parse().expect("valid");
    assert_eq!(table.len(), Layer::keys().len());
}

#[test]
fn every_setting_has_the_variable_of_its_name() {
    let command = <Layer as clap::Args>::augment_args(clap::Command::new("collage"));
    for arg in command.get_arguments() {
        let expected = format!("COLLAGE_{}", arg.get_id().as_str().to_uppercase());
        assert_eq!(
            arg.get_env().and_then(|e| e.to_str()),
            Some(expected.as_str())
        );
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("collage.toml");
    fs::write(&path, "queue = 10\nseed = 7\nstragglers = [\"slow:0:8\"]\n").expect("written");
    let path = path.to_str().expect("utf-8");
    let settings = Settings::resolve(flags(&["--config", path, "--queue", "20"])).expect("valid");
    assert_eq!(settings.layer().queue, Some(20));
    assert_eq!(settings.layer().seed, Some(7));
    assert_eq!(settings.layer().stragglers.as_ref().map(Vec::len), Some(1));
    assert_eq!(settings.layer().top, None);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let error = parse("colage_workers = 2").expect_err("unknown");
    assert_eq!(error.code(), 503);
    assert_eq!(
        error.to_string(),
        "collage.toml: no setting is called `colage_workers`; the nearest is `collage_workers`"
    );
    assert!(
        parse("config = \"other.toml\"").is_err(),
        "a file cannot name another"
    );
}

#[test]
fn a_wrong_value_is_named_with_its_file_and_key() {
    let cases = [
        ("release = \"20\"", "release", "us, ms or s"),
        ("release = 20", "release", "expected a string"),
        ("queue = -1", "queue", "-1"),
        ("grid = \"3\"", "grid", "ROWSxCOLS"),
        ("policy = \"hedge\"", "policy", "p50 to p99.9 or a time"),
        ("device = \"tpu\"", "device", "cpu[:THREADS]"),
        ("device = [\"cpu\", \"tpu\"]", "device", "\"tpu\""),
        ("device = [\"cpu\", \"cpu:2\"]", "device", "named twice"),
        ("device = 3", "device", "a string or a list of strings"),
        ("device = []", "device", "expected auto"),
        (
            "stragglers = [\"slow:0\"]",
            "stragglers",
            "slow:WORKER:FACTOR",
        ),
    ];
    for (toml, key, expected) in cases {
        let error = parse(toml).expect_err(toml);
        let message = error.to_string();
        assert_eq!(error.code(), 504, "{message}");
        assert!(
            message.starts_with(&format!("collage.toml: `{key}`: ")) && message.contains(expected),
            "{message}"
        );
    }
}

#[test]
fn what_is_not_toml_or_not_there_is_said_to_be_so() {
    assert_eq!(parse("queue = ").expect_err("syntax").code(), 502);
    let error = Layer::read(Path::new("/nowhere/collage.toml")).expect_err("missing");
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/collage.toml: cannot be read"),
        "{error}"
    );
}

#[test]
fn a_collage_without_its_base_is_refused() {
    let error = Settings::resolve(flags(&["--collage", "c.safetensors"])).expect_err("no base");
    assert_eq!(
        error.to_string(),
        "`collage` is given without the `model` that it belongs to"
    );
}

#[test]
fn an_accuracy_budget_without_what_a_collage_loses_is_refused() {
    let settings = Settings::resolve(flags(&["--accuracy-budget", "0.001", "--device", "cpu:1"]));
    let settings = settings.expect("nothing wrong in itself");
    let base = || Model::open("weights/digits-base.safetensors");
    // A model for single images states nothing about a grid.
    let unstated = || Ok((base()?, Some(base()?)));
    let error = settings.options(unstated).expect_err("no drop");
    assert_eq!(error.code(), 507);
    assert!(error.to_string().contains("`accuracy_drop`"), "{error}");
}

#[test]
fn what_a_collage_loses_is_what_both_files_state_at_the_grid_that_runs() {
    let drop = |args: &[&str]| {
        let args = [&["--accuracy-budget", "0.001", "--device", "cpu:1"], args].concat();
        let settings = Settings::resolve(flags(&args)).expect("valid");
        let embedded = || {
            Ok((
                Model::open("weights/digits-base.safetensors")?,
                Some(Model::open("weights/digits-collage.safetensors")?),
            ))
        };
        let options = settings.options(embedded).expect("both state theirs");
        options.accuracy.expect("a budget was given").drop
    };
    let stated = |grid: &str| {
        let accuracy = |model: Model, of: &str| model.metadata().accuracy[of];
        let collage = Model::open("weights/digits-collage.safetensors").expect("sound");
        let base = Model::open("weights/digits-base.safetensors").expect("sound");
        accuracy(base, "base") - accuracy(collage, grid)
    };
    assert_eq!(drop(&[]), stated("3x3"));
    assert_eq!(drop(&["--grid", "5x5"]), stated("5x5"));
    assert_eq!(drop(&["--policy", "collage:2x2:lazy"]), stated("2x2"));
    assert_eq!(drop(&["--policy", "small"]), stated("1x1"));
    assert_eq!(drop(&["--accuracy-drop", "0.25"]), 0.25);
}

#[test]
fn times_are_read_with_their_unit_only() {
    assert_eq!(duration("0ms"), Ok(Duration::ZERO));
    assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
    assert_eq!(duration("1.5 s"), Ok(Duration::from_millis(1500)));
    for wrong in [
        "", "5", "ms", "5m", "-1ms", "NaNs", "infs", "1e300s", "0", "5MS",
    ] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn devices_are_a_text_or_a_list_in_the_file_and_a_text_with_commas_as_a_flag() {
    let device = |toml: &str| parse(toml).expect(toml).device;
    let expected = flags(&["--device", "cuda:0,cuda:1"]).device;
    assert!(expected.is_some());
    assert_eq!(device("device = \"cuda:0,cuda:1\""), expected);
    assert_eq!(device("device = [\"cuda:0\", \"cuda:1\"]"), expected);
    assert_eq!(
        device("device = [\"cpu:1\"]"),
        flags(&["--device", "cpu:1"]).device
    );
}
