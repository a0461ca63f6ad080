//! Files that lie, made from two small true ones, and how they must be refused.

use std::collections::BTreeMap;

use collage::error::Classify;
use collage::model::file::{self, Container, Stored};
use collage::model::metadata::{CollageSpec, KEY};
use collage::model::resnet::{Block, ShortcutKind};
use collage::model::{Fault, Metadata, Model, ModelError};
use serde_json::Value;

use super::{grids, metadata, small, tensors};

/// A small base model.
pub fn base() -> (Metadata, Vec<Stored>) {
    let described = metadata(
        small(Block::Basic, ShortcutKind::Projection, true),
        16,
        3,
        None,
    );
    let stored = tensors(&described.architecture, 3);
    (described, stored)
}

/// A small collage model.
pub fn collage() -> (Metadata, Vec<Stored>) {
    let spec = CollageSpec {
        stride: 2,
        grids: grids("1x1,3x3"),
    };
    let described = metadata(
        small(Block::Basic, ShortcutKind::Pad, false),
        8,
        3,
        Some(spec),
    );
    let stored = tensors(&described.architecture, 3);
    (described, stored)
}

pub fn open(bytes: &[u8]) -> Result<Model, ModelError> {
    Model::from_bytes("lie.safetensors", bytes)
}

/// The error of a file, whose code must be `code` and whose message must name the file and contain `says`.
#[track_caller]
pub fn refuse(bytes: &[u8], code: u32, says: &str) -> Fault {
    let error = open(bytes).expect_err("accepted");
    let message = error.to_string();
    assert!(message.starts_with("lie.safetensors: "), "{message}");
    assert!(message.contains(says), "`{message}` does not say `{says}`");
    assert_eq!(
        (error.code(), error.can_retry()),
        (code, false),
        "{message}"
    );
    error.fault
}

/// A container with any header text.
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The base model with its metadata JSON edited.
pub fn described(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    edited(base(), edit)
}

pub fn edited(
    (metadata, stored): (Metadata, Vec<Stored>),
    edit: impl FnOnce(&mut Value),
) -> Vec<u8> {
    let bytes = metadata.write(&stored).unwrap();
    let json = Container::parse(&bytes)
        .unwrap()
        .metadata(KEY)
        .unwrap()
        .to_owned();
    let mut value: Value = serde_json::from_str(&json).unwrap();
    edit(&mut value);
    file::write(
        &BTreeMap::from([(KEY.to_owned(), value.to_string())]),
        &stored,
    )
    .unwrap()
}

/// The base model with its tensors edited, under a checksum that fits.
pub fn stored(edit: impl FnOnce(&mut Vec<Stored>)) -> Vec<u8> {
    let (metadata, mut tensors) = base();
    edit(&mut tensors);
    metadata.write(&tensors).unwrap()
}

pub fn find<'a>(tensors: &'a mut [Stored], name: &str) -> &'a mut Stored {
    tensors.iter_mut().find(|t| t.name == name).unwrap()
}
