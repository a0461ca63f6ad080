//! The whole networks that are measured, by the way of every model: a file's bytes, opened, checked and compiled.

use collage::model::Model;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::hashed;
use collage::model::plan::{Grid, Plan};
use collage::model::resnet::Named;

use super::Case;

/// Every network, at every batch size and canvas that is measured.
pub fn all() -> Vec<Case> {
    // ResNet-32 has 69 M multiply-accumulates an image at 32, ResNet-18 1.81 G at 224.
    let made = "weights of every name can be made";
    let resnet32 = hashed::base(Named::ResNet32).expect(made);
    let resnet18 = hashed::base(Named::ResNet18).expect(made);
    let collage = hashed::collage().expect(made);
    vec![
        case("resnet32-32-b1", &resnet32, 1, 1),
        case("resnet32-32-b64", &resnet32, 64, 1),
        case("resnet18-224-b1", &resnet18, 1, 1),
        case("resnet18-224-b8", &resnet18, 8, 1),
        case("collage-96-b1", &collage, 1, 3),
        case("collage-384-b1", &collage, 1, 12),
    ]
}

fn case(id: &str, model: &Model, batch: usize, side: usize) -> Case {
    let options = PlanOptions {
        batch,
        grid: Grid {
            rows: side,
            cols: side,
        },
        input: PlanInput::Tensor,
        output: PlanOutput::Logits,
        ..PlanOptions::default()
    };
    Case::on_tensor(
        id,
        Plan::compile(model, &options).expect("a plan of a valid model"),
    )
}
