//! What ended jobs left, until the scheduler forgets them, and how an answer is read from it.

use crate::backend::{Scored, best};
use crate::sched::{IdMap, JobId, Part, RequestId};

use super::decode::decode;
use super::worker::Rows;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Results {
    jobs: IdMap<JobId, Rows>,
    /// The decoded answer that the next settlement gives, and what it was decoded from.
    decoded: Option<(RequestId, Vec<Scored>, Decoded)>,
}

/// What an answer was decoded from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decoded {
    /// The number of the parity's run.
    pub parity: u64,
    /// The numbers of the base runs with the other members' answers, in the order of the group.
    pub others: Vec<u64>,
}

/// What a base answer is made of where it is read on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Head {
    /// Classes of an answer.
    pub k: usize,
    /// Of the softmax.
    pub temperature: f32,
}

impl Results {
    pub(super) fn keep(&mut self, job: JobId, rows: Rows) {
        self.jobs.insert(job, rows);
    }

    pub(super) fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    /// The best classes of this row. An answer is given once, so they are moved out; rows are there until they are
    /// forgotten.
    pub(super) fn take(&mut self, job: JobId, index: usize) -> Vec<Scored> {
        let rows = self.jobs.get_mut(&job);
        let row = rows.and_then(|rows| rows.top.get_mut(index));
        row.map(std::mem::take).unwrap_or_default()
    }

    /// Decodes the answer that the next settlement gives.
    pub(super) fn decode(
        &mut self,
        id: RequestId,
        (parity, times): (JobId, usize),
        others: &[Part],
        head: Head,
    ) {
        let logits = |job: JobId, index: usize| {
            let rows = self.jobs.get(&job);
            rows.and_then(|rows| rows.logits.get(index))
                .map(Vec::as_slice)
        };
        let known = others
            .iter()
            .map(|p| Some((p.times, logits(p.job, p.index)?)));
        let known: Option<Vec<_>> = known.collect();
        let Some((parity_logits, known)) = logits(parity, 0).zip(known) else {
            return; // all of them are kept until their group is done
        };
        let top = best(
            head.k,
            head.temperature,
            &decode(parity_logits, times, &known),
        );
        let from = Decoded {
            parity: parity.0,
            others: others.iter().map(|p| p.job.0).collect(),
        };
        self.decoded = Some((id, top, from));
    }

    /// What was decoded for this request, if anything was.
    pub(super) fn take_decoded(&mut self, id: RequestId) -> Option<(Vec<Scored>, Decoded)> {
        let (_, top, from) = self.decoded.take().filter(|(of, ..)| *of == id)?;
        Some((top, from))
    }
}
