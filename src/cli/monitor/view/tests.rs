//! What the view must show and never hide, drawn into a buffer and read back as text.

use collage::attach::{Found, Process, Scores, Service, State, Worker};
use collage::host::telemetry::{Gpu, History, Link, Reading, Reason, Xid};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::super::snapshot::Snapshot;
use super::app::App;
use super::draw::draw;
use super::theme::Theme;

fn gpu(index: u32) -> Gpu {
    Gpu {
        index,
        name: "NVIDIA H100 80GB HBM3".into(),
        pci_bus_id: Some(format!("0000:0{}:00.0", index + 1)),
        memory_total_bytes: Some(80 << 30),
        sm_clock_max_mhz: Some(1980),
        memory_clock_max_mhz: Some(2619),
        slowdown_c: Some(87),
        link_max: Link {
            generation: Some(5),
            width: Some(16),
        },
        ..Gpu::default()
    }
}

/// Readings a tenth of a second apart.
fn history(gpu: Gpu, count: u64, reading: impl Fn(u64) -> Reading) -> History {
    let index = gpu.index;
    let mut history = History::new(gpu, 60_000_000);
    for i in 0..count {
        history.push(Reading {
            gpu: index,
            at_us: i * 100_000,
            ..reading(i)
        });
    }
    history
}

fn busy() -> Reading {
    Reading {
        sm_clock_mhz: Some(1980),
        memory_clock_mhz: Some(2619),
        reasons: Some([].into_iter().collect()),
        utilisation: Some(0.97),
        temperature_c: Some(61),
        power_w: Some(512.4),
        power_limit_w: Some(700.0),
        memory_used_bytes: Some(20 << 30),
        link: Link {
            generation: Some(5),
            width: Some(16),
        },
        ..Reading::default()
    }
}

fn hot() -> Reading {
    Reading {
        sm_clock_mhz: Some(990),
        temperature_c: Some(88),
        reasons: Some([Reason::HardwareThermal].into_iter().collect()),
        ..busy()
    }
}

fn worker(index: usize) -> Worker {
    Worker {
        index,
        role: "base".into(),
        device_name: "NVIDIA H100 80GB HBM3".into(),
        state: "ready".into(),
        health: "healthy".into(),
        scores: Some(Scores {
            relative: 0.98,
            individual: 0.99,
        }),
        service: Service {
            recent_p50_us: 2_310,
            recent_p99_us: 4_120,
            recent_runs: 256,
            ..Service::default()
        },
        runs: 1_000,
        answers: 200,
        backups: 3,
        ..Worker::default()
    }
}

/// As worker 1 of them is slow.
fn slow(index: usize) -> Worker {
    Worker {
        health: "quarantined".into(),
        scores: Some(Scores {
            relative: 0.21,
            individual: 0.22,
        }),
        service: Service {
            recent_p50_us: 11_000,
            recent_p99_us: 48_300,
            recent_runs: 256,
            ..Service::default()
        },
        queued: 7,
        deadline_exceeded: 12,
        backups: 90,
        ..worker(index)
    }
}

fn engine(pid: u32, workers: Vec<Worker>) -> (Found, Result<State, String>) {
    let found = Found {
        pid,
        engine: 0,
        path: "/run/user/1000/collage/engine.sock".into(),
    };
    let process = Process {
        pid,
        ..Process::default()
    };
    let state = State {
        process,
        workers,
        ..State::default()
    };
    (found, Ok(state))
}

fn snapshot(histories: &[History]) -> Snapshot {
    let engines = vec![engine(4242, vec![worker(0), slow(1), worker(2)])];
    Snapshot::of(Ok("580.65.06".into()), histories, engines)
}

fn app(snapshot: Snapshot) -> App {
    let mut app = App::new(Theme::plain());
    app.update(snapshot);
    app
}

/// The screen, a string a line.
fn screen(app: &App, columns: u16, rows: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a buffer");
    terminal.draw(|frame| draw(frame, app)).expect("draws");
    let buffer = terminal.backend().buffer();
    let line = |y| -> String { (0..columns).map(|x| buffer[(x, y)].symbol()).collect() };
    (0..rows).map(line).collect()
}

fn shows(lines: &[String], what: &str) {
    let all = lines.join("\n");
    assert!(all.contains(what), "{what:?} is not in:\n{all}");
}

fn press(app: &mut App, code: KeyCode) {
    app.key(KeyEvent::new(code, KeyModifiers::NONE));
}

#[test]
fn a_hot_gpu_shows_its_clocks_its_reason_with_its_share_and_its_verdict() {
    let hot = history(gpu(0), 20, |i| if i < 5 { busy() } else { hot() });
    let lines = screen(&app(snapshot(&[hot])), 120, 40);
    shows(&lines, "NVIDIA H100 80GB HBM3");
    shows(&lines, "SM 990/1980 MHz  50%");
    shows(&lines, "88 of 87 \u{b0}C");
    shows(&lines, "512/700 W");
    shows(&lines, "20.0 GiB/80.0 GiB");
    shows(&lines, "hw_thermal_slowdown 7");
    shows(&lines, "verdict: thermal (certain)");
    shows(&lines, "why: hw_thermal_slowdown held for 7");
}

#[test]
fn eighty_by_twenty_four_holds_every_column_and_the_verdict() {
    let hot = history(gpu(0), 20, |_| hot());
    let lines = screen(&app(snapshot(&[hot])), 80, 24);
    for heading in [
        "P50", "P99", "REL", "IND", "Q", "MISS", "BACK", "HEALTH", "VERDICT",
    ] {
        shows(&lines, heading);
    }
    for cell in ["11.0 ms", "48.3 ms", "0.21", "0.22", "45%", "quarantined"] {
        shows(&lines, cell);
    }
    shows(&lines, "verdict: thermal (certain)");
    assert!(lines.iter().all(|line| line.chars().count() == 80));
}

#[test]
fn eight_gpus_fit_in_eighty_by_twenty_four() {
    let gpus: Vec<History> = (0..8)
        .map(|i| history(gpu(i), 5, |_| if i == 6 { hot() } else { busy() }))
        .collect();
    let lines = screen(&app(snapshot(&gpus)), 80, 24);
    for i in 0..8 {
        shows(&lines, &format!("GPU {i}"));
    }
    assert_eq!(
        lines
            .iter()
            .filter(|l| l.contains("verdict: thermal"))
            .count(),
        1
    );
    shows(&lines, "quarantined");
}

#[test]
fn any_size_is_drawn() {
    let hot = history(gpu(0), 20, |_| hot());
    let app = app(snapshot(&[hot.clone(), hot]));
    for columns in [1, 20, 59, 60, 80, 200] {
        for rows in [1, 5, 10, 13, 24, 60] {
            screen(&app, columns, rows);
        }
    }
}

#[test]
fn what_a_gpu_does_not_tell_is_a_question_mark_and_never_a_zero() {
    let silent = history(Gpu::default(), 3, |_| Reading::default());
    let lines = screen(&app(snapshot(&[silent])), 120, 40);
    shows(&lines, "SM ?/? MHz");
    shows(&lines, "?/? W");
    shows(&lines, "PCIe gen ? x?");
}

#[test]
fn a_lost_gpu_and_its_xid_are_told() {
    let lost = history(gpu(0), 3, |i| Reading {
        state: if i == 2 {
            collage::host::telemetry::State::Lost
        } else {
            Default::default()
        },
        xids: if i == 1 { vec![Xid(79)] } else { Vec::new() },
        ..busy()
    });
    let lines = screen(&app(snapshot(&[lost])), 120, 40);
    shows(&lines, "LOST");
    shows(&lines, "Xid 79");
    shows(&lines, "verdict: hardware (certain)");
}

#[test]
fn no_nvml_and_no_engine_are_told_with_what_to_do() {
    let reason = "the NVML library is not installed; it comes with the NVIDIA driver";
    let lines = screen(&app(Snapshot::of(Err(reason.into()), &[], vec![])), 100, 24);
    shows(&lines, &format!("no GPU to watch: {reason}"));
    shows(&lines, "no engine to see");
    shows(&lines, "`collage demo`");
}

#[test]
fn an_engine_that_says_nothing_is_there_with_its_reason() {
    let mut silent = engine(7, vec![]);
    silent.1 = Err("no answer within 300 ms".into());
    let lines = screen(
        &app(Snapshot::of(Err("none".into()), &[], vec![silent])),
        100,
        24,
    );
    shows(&lines, "process 7, engine 0: no answer within 300 ms");
}

#[test]
fn arrows_select_whose_verdict_is_told_and_stay_in_the_table() {
    let mut app = app(snapshot(&[]));
    shows(&screen(&app, 100, 30), "worker 0 of 4242.0");
    press(&mut app, KeyCode::Down);
    shows(&screen(&app, 100, 30), "worker 1 of 4242.0");
    shows(
        &screen(&app, 100, 30),
        "it works at 21% of the speed of the fastest worker",
    );
    (0..9).for_each(|_| press(&mut app, KeyCode::Down));
    shows(&screen(&app, 100, 30), "worker 2 of 4242.0");
    (0..9).for_each(|_| press(&mut app, KeyCode::Up));
    shows(&screen(&app, 100, 30), "worker 0 of 4242.0");
}

#[test]
fn s_puts_the_slowest_first() {
    let mut app = app(snapshot(&[]));
    press(&mut app, KeyCode::Char('s'));
    let lines = screen(&app, 100, 30);
    let first = lines.iter().find(|line| line.contains("4242.0"));
    assert!(
        first.is_some_and(|line| line.contains("48.3 ms")),
        "{lines:#?}"
    );
    shows(&lines, "sorted by p99");
}

#[test]
fn p_keeps_what_is_shown() {
    let mut app = app(snapshot(&[]));
    press(&mut app, KeyCode::Char('p'));
    app.update(Snapshot::of(Ok("999".into()), &[], vec![]));
    let lines = screen(&app, 100, 30);
    shows(&lines, "PAUSED");
    shows(&lines, "driver 580.65.06");
    press(&mut app, KeyCode::Char('p'));
    app.update(Snapshot::of(Ok("999".into()), &[], vec![]));
    shows(&screen(&app, 100, 30), "driver 999");
}

#[test]
fn a_table_that_became_shorter_keeps_a_line_selected() {
    let mut app = app(snapshot(&[]));
    press(&mut app, KeyCode::End);
    app.update(Snapshot::of(
        Ok("580".into()),
        &[],
        vec![engine(1, vec![worker(0)])],
    ));
    shows(&screen(&app, 100, 30), "worker 0 of 1.0");
}

#[test]
fn q_and_control_c_leave_and_escape_closes_the_help_first() {
    let mut app = app(snapshot(&[]));
    press(&mut app, KeyCode::Char('?'));
    shows(&screen(&app, 100, 30), "up, down, k, j");
    press(&mut app, KeyCode::Esc);
    assert!(!app.help && !app.is_over());
    app.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(app.is_over());
    let mut other = self::app(snapshot(&[]));
    press(&mut other, KeyCode::Char('q'));
    assert!(other.is_over());
}

/// Every colour that is used somewhere on the screen.
fn colours(theme: Theme) -> Vec<Color> {
    let hot = history(gpu(0), 20, |_| hot());
    let mut app = App::new(theme);
    app.update(snapshot(&[hot]));
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).expect("a buffer");
    terminal.draw(|frame| draw(frame, &app)).expect("draws");
    let cells = &terminal.backend().buffer().content;
    cells.iter().flat_map(|cell| [cell.fg, cell.bg]).collect()
}

#[test]
fn without_colours_not_one_cell_has_one() {
    assert!(colours(Theme::plain()).iter().all(|c| *c == Color::Reset));
    assert!(colours(Theme::colours()).contains(&Color::Red));
}

#[test]
fn a_picture_holds_the_screens_text_and_escapes_it() {
    let mut silent = engine(7, vec![]);
    silent.1 = Err("a<b & c>d".into());
    let app = app(Snapshot::of(Err("none".into()), &[], vec![silent]));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a buffer");
    terminal.draw(|frame| draw(frame, &app)).expect("draws");
    let svg = super::svg::of(terminal.backend().buffer());
    assert!(svg.contains("a&lt;b &amp; c&gt;d") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
}
