//! The dashboard's file against what is exported.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::attached::{engine, watching};
use super::{Exporter, HOT, Stub, is_hot, text};

#[test]
fn promtool_can_read_every_query_of_the_dashboard() {
    let Some(promtool) = std::env::var_os("COLLAGE_TEST_PROMTOOL") else {
        println!(
            "SKIPPED: promtool reads the dashboard's queries: COLLAGE_TEST_PROMTOOL names none"
        );
        return;
    };
    let mut rules = Vec::new();
    collect(&dashboard(), &mut |query| {
        if !query.starts_with("label_values") && query != "prometheus" {
            let query = query
                .replace("$__rate_interval", "1m")
                .replace("$__range", "1h");
            rules.push(
                serde_json::json!({ "record": format!("query:{}", rules.len()), "expr": query }),
            );
        }
    });
    assert!(rules.len() > 30, "{}", rules.len());
    let file = tempfile::NamedTempFile::new().expect("a file");
    // JSON is YAML.
    let all = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    std::fs::write(file.path(), all.to_string()).expect("written");
    let check = ["check", "rules", "--lint=none"];
    let output = Command::new(promtool).args(check).arg(file.path()).output();
    let output = output.expect("promtool starts");
    let told = text(&output.stderr) + &text(&output.stdout);
    assert!(output.status.success(), "{told}");
}

#[test]
fn every_panel_of_the_dashboard_has_its_own_id_and_asks_the_chosen_source() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("a list");
    let ids: BTreeSet<_> = panels.iter().filter_map(|p| p["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|p| p["type"] != "row") {
        let targets = panel["targets"].as_array().expect("a list");
        assert!(!targets.is_empty(), "{panel}");
        let sources = targets.iter().map(|t| &t["datasource"]["uid"]);
        assert!(
            sources
                .chain([&panel["datasource"]["uid"]])
                .all(|uid| uid == "${datasource}")
        );
    }
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    assert_eq!(variables[0]["type"], "datasource");
}

fn dashboard() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana/collage.json");
    let dashboard = std::fs::read_to_string(path).expect("is there");
    serde_json::from_str(&dashboard).expect("JSON")
}

/// Names of metrics in a query: words with one of our beginnings.
fn named(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|w| w.starts_with("collage_") || w.starts_with("DCGM_FI_"))
}

#[test]
fn the_dashboard_asks_for_what_is_exported_and_for_all_of_it() {
    let dashboard = dashboard();
    let mut asked = BTreeSet::new();
    collect(&dashboard, &mut |query| {
        asked.extend(named(query).map(str::to_owned))
    });
    let (engine, folder) = engine();
    let stub = Stub::new(HOT);
    let mut command = watching(folder.path(), &[]);
    command.env("COLLAGE_NVML", stub.library());
    // A score is there once a worker has run enough, which is the first thing that the engine waited for.
    let metrics = Exporter::start(command).until(is_hot);
    let types = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    let exported: BTreeSet<String> = types
        .filter_map(|l| l.split_once(' '))
        .flat_map(|(name, kind)| match kind {
            "histogram" => vec![format!("{name}_bucket")],
            _ => vec![name.to_owned()],
        })
        .collect();
    let unknown: Vec<&String> = asked.difference(&exported).collect();
    assert!(
        unknown.is_empty(),
        "asked for and not exported: {unknown:?}"
    );
    let unseen: Vec<&String> = exported.difference(&asked).collect();
    assert!(unseen.is_empty(), "exported and in no panel: {unseen:?}");
    engine.shutdown();
}

/// Every query of the dashboard, its variables' among them.
fn collect(value: &serde_json::Value, with: &mut impl FnMut(&str)) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(text) if matches!(key.as_str(), "expr" | "query" | "definition") => {
                        with(text)
                    }
                    _ => collect(value, with),
                }
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|v| collect(v, with)),
        _ => {}
    }
}
