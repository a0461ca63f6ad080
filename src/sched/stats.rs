//! What the scheduler counts.

/// Counts since the start. Each submitted request ends in exactly one of the outcomes from `base` to `closed`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Requests submitted, whatever became of them.
    pub submitted: u64,
    /// Answered by their own base run.
    pub base: u64,
    /// Answered by their tile of a collage.
    pub collage: u64,
    /// Answered by a further run of the base model: a replica, a hedge, a re-sent request or a probe.
    pub copies: u64,
    /// Decoded from their group's parity and its other answers.
    pub parity: u64,
    /// Failed: no answer by the deadline.
    pub deadline_exceeded: u64,
    /// Refused: the queue was full.
    pub overloaded: u64,
    /// Their caller went away.
    pub cancelled: u64,
    /// Failed: no run of them succeeded, or no worker was left.
    pub failed: u64,
    /// Refused: draining.
    pub closed: u64,
    /// Base answers that came after their request was settled otherwise: counted, never sent.
    pub late: u64,
    /// Collage answers under the confidence that was asked for.
    pub abstained: u64,
    /// Collage answers that nobody needed any more when they came or when they might be given.
    pub unneeded: u64,
    /// Answers of copies and probes that nobody needed any more.
    pub copies_unneeded: u64,
    /// Jobs of requests' own base runs that were launched.
    pub base_runs: u64,
    /// Images in them.
    pub base_images: u64,
    /// Jobs of replicas, hedges and re-sent requests that were launched.
    pub copy_runs: u64,
    /// Images in them.
    pub copy_images: u64,
    /// Runs launched to see how fast a worker is that is under watch, of one image each.
    pub probe_runs: u64,
    /// Collage jobs launched.
    pub collage_runs: u64,
    /// Tiles filled in them.
    pub collage_tiles: u64,
    /// Parity jobs launched.
    pub parity_runs: u64,
    /// Their members.
    pub parity_images: u64,
    /// Work of the collage and parity jobs launched, in base runs of one image.
    pub group_work: f64,
    /// Groups whose collage or parity was never launched because every member was answered before.
    pub collages_saved: u64,
    /// Requests settled before their base run was launched.
    pub bases_saved: u64,
    /// Base runs repeated because a run failed or a worker was lost.
    pub retries: u64,
}

impl Stats {
    /// Requests that got an answer.
    pub fn answered(&self) -> u64 {
        self.base + self.collage + self.copies + self.parity
    }

    /// Requests that were settled, answered or not.
    pub fn settled(&self) -> u64 {
        self.answered()
            + self.deadline_exceeded
            + self.overloaded
            + self.cancelled
            + self.failed
            + self.closed
    }
}
