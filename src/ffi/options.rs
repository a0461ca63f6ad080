//! `collage_options` to [`Options`]: fields over TOML text over a TOML file, through the settings' own code.

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::error::{AbiError, Failure};
use super::layout;
use super::types;
use crate::config::{ConfigError, DeviceList, Layer, Settings};
use crate::embedded;
use crate::engine::Options;
use crate::model::{Model, ModelError};

/// Most devices: a guard against a count that is garbage.
const MOST_DEVICES: usize = 1024;

/// A setting given by a field, as errors name it.
const FIELD: &str = "collage_options";

/// Models given as bytes.
#[derive(Default)]
struct Bytes<'a> {
    base: Option<(&'a [u8], Option<String>)>,
    collage: Option<&'a [u8]>,
}

impl Bytes<'_> {
    /// The models of an engine for which no path was given.
    fn open(&self) -> Result<(Model, Option<Model>), ModelError> {
        let Some((base, arch)) = &self.base else {
            return Ok((embedded::base()?, Some(embedded::collage()?)));
        };
        let base = match arch {
            Some(arch) => Model::from_bytes_with_arch("model_data", base, arch)?,
            None => Model::from_bytes("model_data", base)?,
        };
        let collage = self.collage.map(|b| Model::from_bytes("collage_data", b));
        Ok((base, collage.transpose()?))
    }
}

/// Opens the models and devices that the caller asks for.
///
/// # Safety
/// As `collage_engine_open` asks of `options`.
pub(super) unsafe fn open(options: *const types::Options) -> Result<Options, Failure> {
    let given = match options.is_null() {
        true => types::Options::default(),
        // SAFETY: not NULL, so the caller promises a struct of its size.
        false => unsafe { layout::read(options) }?,
    };
    let (mut layer, device, bytes) =
        // SAFETY: as this function's.
        unsafe { (layer(&given)?, devices(&given)?, model_bytes(&given)?) };
    layer.device = device;
    // SAFETY: as this function's.
    if let Some(toml) = unsafe { super::text("toml", given.toml) }? {
        layer = layer.or(Layer::parse("toml", toml)?);
    }
    let settings = resolve(layer, &bytes)?;
    Ok(settings.options(|| bytes.open())?)
}

fn resolve(mut layer: Layer, bytes: &Bytes<'_>) -> Result<Settings, Failure> {
    if bytes.base.is_some() {
        // Whatever a file says of models, these are the ones.
        if layer.model.is_some() {
            return Err(both("model_path", "model_data").into());
        }
        let file = layer.config.take().map(|path| Layer::read(&path));
        layer = layer.or(file.transpose()?.unwrap_or_default());
        (layer.model, layer.arch, layer.collage) = (None, None, None);
    } else if bytes.collage.is_some() {
        return Err(AbiError::value(
            "collage_data",
            "without model_data",
            "both models in memory, or both by path",
        )
        .into());
    }
    Ok(Settings::resolve(layer)?)
}

/// # Safety
/// The pointers are as `collage_engine_open` asks.
unsafe fn model_bytes<'a>(given: &types::Options) -> Result<Bytes<'a>, AbiError> {
    // SAFETY: as this function's.
    unsafe {
        let arch = super::text("arch", given.arch)?.map(str::to_owned);
        let base = bytes("model_data", given.model_data, given.model_size)?;
        Ok(Bytes {
            base: base.map(|bytes| (bytes, arch)),
            collage: bytes("collage_data", given.collage_data, given.collage_size)?,
        })
    }
}

/// # Safety
/// `data` is NULL or `size` bytes may be read there.
unsafe fn bytes<'a>(
    what: &'static str,
    data: *const c_void,
    size: usize,
) -> Result<Option<&'a [u8]>, AbiError> {
    match (data.is_null(), size) {
        (true, 0) => Ok(None),
        (true, _) => Err(AbiError::Null { what }),
        (false, 0) => Err(AbiError::value(what, "0 bytes", "a model file's bytes")),
        (false, size) if size > isize::MAX as usize => {
            Err(AbiError::value(what, size, "a size that memory can have"))
        }
        // SAFETY: not NULL, and the caller promises that many bytes, which do not change during the call.
        (false, size) => Ok(Some(unsafe {
            std::slice::from_raw_parts(data.cast(), size)
        })),
    }
}

/// # Safety
/// `devices` is NULL or `device_count` texts may be read there.
unsafe fn devices(given: &types::Options) -> Result<Option<DeviceList>, Failure> {
    if given.devices.is_null() && given.device_count > 0 {
        return Err(AbiError::Null { what: "devices" }.into());
    }
    if given.device_count > MOST_DEVICES {
        let expected = format!("{MOST_DEVICES} at most");
        return Err(AbiError::value("device_count", given.device_count, expected).into());
    }
    let mut names = Vec::new();
    for i in 0..given.device_count {
        // SAFETY: as this function's.
        let name = unsafe { super::text("devices", *given.devices.add(i)) }?;
        let name = name.ok_or(AbiError::Null { what: "devices" })?;
        names.push(name);
    }
    let is_named = !names.is_empty();
    Ok(is_named.then(|| names.join(",").parse()).transpose()?)
}

/// What the fields say.
///
/// # Safety
/// The pointers are as `collage_engine_open` asks.
unsafe fn layer(given: &types::Options) -> Result<Layer, Failure> {
    // SAFETY: as this function's, for each text.
    let text = |what, text: *const c_char| unsafe { super::text(what, text) };
    let path = |what, given| Ok::<_, AbiError>(text(what, given)?.map(PathBuf::from));
    let stragglers = text("stragglers", given.stragglers)?;
    let stragglers =
        stragglers.map(|list| list.split(',').map(|s| parse("stragglers", s)).collect());
    let in_memory = !given.model_data.is_null();
    Ok(Layer {
        config: path("config_path", given.config_path)?,
        model: path("model_path", given.model_path)?,
        arch: text("arch", given.arch)?
            .filter(|_| !in_memory)
            .map(str::to_owned),
        collage: path("collage_path", given.collage_path)?,
        grid: parsed("grid", text("grid", given.grid)?)?,
        workers: count("workers", given.workers)?,
        collage_workers: count("collage_workers", given.collage_workers)?,
        policy: parsed("policy", text("policy", given.policy)?)?,
        budget: share("budget", given.budget)?,
        accuracy_budget: share("accuracy_budget", given.accuracy_budget)?,
        accuracy_drop: share("accuracy_drop", given.accuracy_drop)?,
        queue: count("queue", given.queue)?,
        max_batch: count("max_batch", given.max_batch)?,
        batch_wait: time(given.batch_wait_ns),
        group_wait: time(given.group_wait_ns),
        release: time(given.release_ns),
        deadline: time(given.deadline_ns),
        min_confidence: share("min_confidence", given.min_confidence)?.map(|p| p as f32),
        top: count("top_k", given.top_k)?,
        stragglers: stragglers.transpose()?,
        seed: (given.seed != 0).then_some(given.seed),
        ..Layer::default()
    })
}

fn both(one: &'static str, other: &str) -> AbiError {
    AbiError::value(one, format!("given beside {other}"), "one of them")
}

fn parsed<T: FromStr<Err: ToString>>(
    key: &'static str,
    given: Option<&str>,
) -> Result<Option<T>, ConfigError> {
    given.map(|given| parse(key, given)).transpose()
}

fn parse<T: FromStr<Err: ToString>>(key: &'static str, given: &str) -> Result<T, ConfigError> {
    given.parse().map_err(|e: T::Err| ConfigError::Value {
        file: FIELD.into(),
        key: key.into(),
        reason: e.to_string(),
    })
}

/// 0: not given. Negative: zero.
fn count(what: &'static str, given: i64) -> Result<Option<usize>, AbiError> {
    match given {
        0 => Ok(None),
        ..0 => Ok(Some(0)),
        _ => usize::try_from(given)
            .map(Some)
            .map_err(|_| AbiError::value(what, given, "a number that memory can count")),
    }
}

/// 0: not given. Negative: zero.
pub(super) fn time(given: i64) -> Option<Duration> {
    (given != 0).then(|| Duration::from_nanos(u64::try_from(given).unwrap_or(0)))
}

/// 0: not given. Negative: zero.
fn share(what: &'static str, given: f64) -> Result<Option<f64>, AbiError> {
    if given.is_nan() {
        return Err(AbiError::value(what, given, "a number"));
    }
    Ok((given != 0.0).then_some(given.max(0.0)))
}
