//! The view on a real terminal: it draws, takes keys, and gives the terminal back as it was.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use super::{HOT, Stub, monitor};

/// A monitor on a terminal of its own.
struct Session {
    terminal: File,
    /// Our hold on the other end: its modes are read after the monitor has gone.
    screen: OwnedFd,
    monitor: Child,
    seen: String,
    _stub: Stub,
}

impl Session {
    fn start() -> Session {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).expect("granted");
        unlockpt(&terminal).expect("unlocked");
        let name = ptsname(&terminal, Vec::new()).expect("named");
        let screen = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opens");
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&screen, size).expect("sized");
        let end = || Stdio::from(screen.try_clone().expect("cloned"));
        let stub = Stub::new(HOT);
        let mut command = monitor(&stub, &["--interval", "20ms"]);
        command.env("TERM", "xterm-256color");
        command.stdin(end()).stdout(end()).stderr(end());
        let monitor = command.spawn().expect("collage starts");
        Session {
            terminal: File::from(terminal),
            screen,
            monitor,
            seen: String::new(),
            _stub: stub,
        }
    }

    /// Reads until this was drawn. Ends only with the test's own timeout if it never is.
    fn until(&mut self, what: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(what) {
            let count = self.terminal.read(&mut bytes).expect("draws");
            self.seen += &String::from_utf8_lossy(&bytes[..count]);
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.terminal.write_all(keys).expect("takes keys");
    }

    /// The exit status, and the terminal's modes after it.
    fn end(mut self) -> (Option<i32>, Termios) {
        self.until("\x1b[?1049l"); // back from the alternate screen
        let status = self.monitor.wait().expect("ends");
        let modes = tcgetattr(&self.screen).expect("has modes");
        (status.code(), modes)
    }
}

#[test]
fn q_leaves_the_terminal_as_it_was() {
    let mut session = Session::start();
    session.until("\x1b[?1049h");
    session.until("H100");
    session.press(b"q");
    let (status, modes) = session.end();
    assert_eq!(status, Some(0));
    assert!(
        modes
            .local_modes
            .contains(LocalModes::ECHO | LocalModes::ICANON)
    );
}

#[test]
fn control_c_leaves_the_terminal_as_it_was() {
    let mut session = Session::start();
    session.until("H100");
    session.press(b"\x03");
    let (status, modes) = session.end();
    assert_eq!(status, Some(0));
    assert!(
        modes
            .local_modes
            .contains(LocalModes::ECHO | LocalModes::ICANON)
    );
}
