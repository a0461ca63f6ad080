//! The lines that engine and monitor exchange, and their bounds.
//!
//! One request a connection, one line each way, both JSON objects with the version under `collage`. A version is raised when
//! a key changes its meaning or goes away; an engine answers what it can and names the version it speaks.

use serde::{Deserialize, Serialize};

use super::state::State;

/// Of the lines and of [`State`].
pub(super) const VERSION: u32 = 1;
/// Longest request.
#[cfg_attr(not(unix), allow(dead_code))]
pub(super) const REQUEST_LIMIT: usize = 256;
/// Longest answer that a monitor takes: twenty thousand workers.
#[cfg_attr(not(unix), allow(dead_code))]
pub(super) const ANSWER_LIMIT: usize = 16 << 20;

/// What a monitor sends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request<'a> {
    pub(super) collage: u32,
    pub(super) ask: &'a str,
}

/// What an engine answers: one of the two.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) collage: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<State>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Answer {
    pub(super) fn state(state: State) -> Answer {
        Answer {
            collage: VERSION,
            state: Some(state),
            error: None,
        }
    }

    pub(super) fn error(message: impl Into<String>) -> Answer {
        Answer {
            collage: VERSION,
            state: None,
            error: Some(message.into()),
        }
    }

    pub(super) fn line(&self) -> Vec<u8> {
        // Only maps whose keys are no text and writers that fail can fail, and neither is here.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// The request of a monitor.
pub(super) fn ask_for_state() -> Vec<u8> {
    let request = Request {
        collage: VERSION,
        ask: "state",
    };
    let mut line = serde_json::to_vec(&request).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Whether the line asks for the state, or what to tell who sent it.
#[cfg_attr(not(unix), allow(dead_code))]
pub(super) fn asks_for_state(line: &[u8]) -> Result<(), String> {
    let expected = r#"expected {"collage":1,"ask":"state"}"#;
    let Ok(request) = serde_json::from_slice::<Request>(line) else {
        return Err(format!("not a request; {expected}"));
    };
    match request {
        Request { collage, .. } if collage != VERSION => {
            Err(format!("version {collage} is not spoken here; {expected}"))
        }
        Request { ask: "state", .. } => Ok(()),
        Request { ask, .. } => Err(format!("cannot tell {ask:?}; {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_understood_as_it_is_written() {
        let line = ask_for_state();
        assert!(line.len() <= REQUEST_LIMIT);
        assert!(asks_for_state(&line).is_ok());
    }

    #[test]
    fn what_is_no_request_is_told_what_one_looks_like() {
        for line in [
            "",
            "state",
            "{}",
            r#"{"collage":2,"ask":"state"}"#,
            r#"{"collage":1,"ask":"weights"}"#,
        ] {
            let told = asks_for_state(line.as_bytes()).expect_err(line);
            assert!(told.contains(r#"{"collage":1,"ask":"state"}"#), "{told}");
        }
    }
}
