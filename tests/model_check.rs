//! Claims about `Plan::check`: a true plan passes, and a plan with any one thing wrong does not.

mod model_support;

use collage::error::Classify;
use collage::model::check::PlanError;
use collage::model::compile::PlanOptions;
use collage::model::plan::{ARENA_ALIGN, Encode, Grid, Plan, Step, TensorId, ValueId};
use collage::model::resnet::{Block, ShortcutKind};
use model_support::*;

/// encode, conv1, maxpool, then blocks with all kinds of shortcuts, and the head.
fn plan() -> Plan {
    let described = metadata(small(Block::Basic, ShortcutKind::Pad, true), 16, 3, None);
    let plan = Plan::compile(
        &model(&described),
        &PlanOptions {
            batch: 2,
            ..PlanOptions::default()
        },
    )
    .unwrap();
    plan.check().unwrap();
    plan
}

/// The error of `plan` after `edit`, whose code must be `code`.
#[track_caller]
fn refuse(code: u32, edit: impl FnOnce(&mut Plan)) -> PlanError {
    let mut plan = plan();
    edit(&mut plan);
    let error = plan.check().expect_err("accepted");
    assert_eq!((error.code(), error.can_retry()), (code, false), "{error}");
    assert!(error.to_string().starts_with("plan test, "), "{error}");
    error
}

/// The first step of op `op`, for changing.
macro_rules! step {
    ($plan:expr, $op:ident) => {
        $plan
            .steps
            .iter_mut()
            .find_map(|s| if let Step::$op(s) = s { Some(s) } else { None })
            .unwrap()
    };
}

/// The first convolution whose shortcut passes `wanted`.
fn with_residual(
    plan: &mut Plan,
    wanted: impl Fn(usize) -> bool,
) -> &mut collage::model::plan::Conv2d {
    let found = plan.steps.iter_mut().find_map(|s| match s {
        Step::Conv2d(c) if c.residual.is_some_and(|r| wanted(r.stride)) => Some(c),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn indices_beyond_the_plan_are_refused() {
    let beyond = ValueId(1000);
    refuse(294, |p| step!(p, Encode).output = beyond);
    refuse(294, |p| step!(p, Conv2d).input = beyond);
    refuse(294, |p| step!(p, Conv2d).output = beyond);
    refuse(294, |p| {
        with_residual(p, |_| true).residual.as_mut().unwrap().value = beyond
    });
    refuse(294, |p| step!(p, TopK).input = beyond);
    let error = refuse(294, |p| step!(p, Conv2d).weight = TensorId(1000));
    assert_eq!(
        error.to_string(),
        "plan test, step 1: there is no tensor 1000"
    );
    refuse(294, |p| step!(p, Linear).bias = TensorId(1000));
    refuse(294, |p| {
        p.steps.remove(0);
        p.values.clear();
    });
}

#[test]
fn encode_begins_and_top_k_ends() {
    refuse(295, |p| p.steps.swap(0, 1));
    refuse(295, |p| p.steps.insert(1, p.steps[0]));
    refuse(295, |p| p.steps.push(*p.steps.last().unwrap()));
    let error = refuse(295, |p| p.steps.clear());
    assert_eq!(
        error.to_string(),
        "plan test, step 0: end has no place here"
    );
}

#[test]
fn values_outside_the_arena_are_refused() {
    refuse(296, |p| p.arena_len -= 1);
    refuse(296, |p| p.arena_len = usize::MAX);
    refuse(296, |p| p.values[3].offset += 1);
    refuse(296, |p| {
        p.values[3].offset = usize::MAX / ARENA_ALIGN * ARENA_ALIGN
    });
    refuse(296, |p| p.values[3].shape[1] = 0);
    refuse(296, |p| p.values[3].shape = [2, usize::MAX, usize::MAX, 1]);
    refuse(296, |p| p.batch = 1);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    refuse(297, |p| step!(p, Encode).grid = Grid { rows: 2, cols: 1 });
    refuse(297, |p| {
        step!(p, Encode).grid = Grid {
            rows: usize::MAX,
            cols: 1,
        }
    });
    refuse(297, |p| step!(p, Encode).preprocessing.resize = 8);
    refuse(297, |p| step!(p, Conv2d).stride = 2);
    refuse(297, |p| step!(p, Conv2d).stride = 0);
    refuse(297, |p| step!(p, Conv2d).padding = 0);
    refuse(297, |p| step!(p, Conv2d).padding = usize::MAX);
    refuse(297, |p| step!(p, Conv2d).kernel = [3, 1]);
    refuse(297, |p| step!(p, Conv2d).bias = TensorId(0));
    let error = refuse(297, |p| step!(p, Conv2d).weight = TensorId(1));
    assert_eq!(
        error.to_string(),
        "plan test, step 1 (conv2d): the weight is not (O, KH, KW, I)"
    );
    refuse(297, |p| {
        with_residual(p, |s| s == 2)
            .residual
            .as_mut()
            .unwrap()
            .stride = 3
    });
    refuse(297, |p| {
        with_residual(p, |s| s == 2)
            .residual
            .as_mut()
            .unwrap()
            .stride = 0
    });
    refuse(297, |p| {
        with_residual(p, |s| s == 2)
            .residual
            .as_mut()
            .unwrap()
            .channel_offset = 9
    });
    refuse(297, |p| {
        with_residual(p, |s| s == 2)
            .residual
            .as_mut()
            .unwrap()
            .channel_offset = usize::MAX
    });
    refuse(297, |p| step!(p, MaxPool2d).kernel = 0);
    refuse(297, |p| step!(p, MaxPool2d).padding = 2);
    refuse(297, |p| step!(p, MaxPool2d).stride = 1);
    refuse(297, |p| step!(p, AvgPool2d).kernel = [1, 4]);
    refuse(297, |p| step!(p, AvgPool2d).kernel = [0, 0]);
    refuse(297, |p| step!(p, Linear).weight = TensorId(0));
    refuse(297, |p| step!(p, TopK).k = 0);
    refuse(297, |p| step!(p, TopK).k = 4);
    refuse(297, |p| step!(p, TopK).temperature = 0.0);
    refuse(297, |p| step!(p, TopK).temperature = f32::NAN);
}

#[test]
fn a_view_is_there_while_a_value_lies_exactly_at_its_place() {
    // A value that no step writes, at the place of the canvas, which the first convolution then reads.
    let view_the_canvas = |p: &mut Plan| {
        p.values.push(p.values[0]);
        step!(p, Encode).output = ValueId(p.values.len() - 1);
    };
    let mut same = plan();
    view_the_canvas(&mut same);
    same.check()
        .expect("value 0 is a view of what encode writes");
    // Not quite there.
    refuse(298, |p| {
        p.values.iter_mut().for_each(|v| v.offset += ARENA_ALIGN);
        p.arena_len += ARENA_ALIGN;
        view_the_canvas(p);
        p.values[0].offset -= ARENA_ALIGN;
    });
    // Read again when something else lies there.
    refuse(298, |p| {
        view_the_canvas(p);
        let conv = p.steps[1];
        p.steps.insert(p.steps.len() - 1, conv);
    });
}

#[test]
fn values_that_are_not_there_any_more_are_refused() {
    // The canvas, read again after the arena was used for others.
    let canvas = plan().values[0];
    let error = refuse(298, |p| {
        let conv = p.steps[1];
        p.steps.insert(p.steps.len() - 1, conv);
    });
    assert!(
        matches!(error, PlanError::Lost { value: 0, .. }),
        "{error}: {canvas:?}"
    );
    // A step that reads what a later one writes.
    refuse(298, |p| p.steps.swap(2, 3));
    // Without `encode`, value 0 is given; the others are not.
    let error = refuse(298, |p| drop(p.steps.drain(..2)));
    assert!(
        matches!(
            error,
            PlanError::Lost {
                step: 0,
                value: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn outputs_over_inputs_are_refused_unless_they_take_a_shortcuts_place() {
    refuse(299, |p| {
        p.arena_len *= 2;
        p.values[1].offset = p.values[0].offset;
    });
    let in_place = plan();
    let taken = in_place.steps.iter().any(|s| match s {
        Step::Conv2d(c) => c
            .residual
            .is_some_and(|r| in_place.values[r.value.0] == in_place.values[c.output.0]),
        _ => false,
    });
    assert!(
        taken,
        "an ordinary shortcut's place was taken, and that was accepted"
    );
    // The same place under an option-A shortcut would be overwritten before it is read.
    let error = refuse(299, |p| {
        p.arena_len *= 2;
        let conv = *with_residual(p, |s| s == 2);
        let (input, shortcut) = (conv.input.0, conv.residual.unwrap().value.0);
        p.values[conv.output.0].offset = p.values[shortcut].offset;
        assert_ne!(p.values[input].offset, p.values[shortcut].offset);
    });
    assert!(error.to_string().contains("while reading it"), "{error}");
}

#[test]
fn a_plan_of_one_hand_made_step_is_checked_like_any_other() {
    let mut plan = plan();
    let Step::Encode(encode) = plan.steps[0] else {
        panic!("no encode")
    };
    plan.steps = vec![Step::Encode(Encode {
        output: ValueId(0),
        ..encode
    })];
    plan.values.truncate(1);
    plan.check().unwrap();
}
