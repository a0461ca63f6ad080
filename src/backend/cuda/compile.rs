//! From a kernel's source to a cubin for an architecture: embedded in this binary, else cached, else compiled by NVRTC.
//!
//! A unit is one file for one element type: only what a plan needs is compiled. Cubins and not PTX, because a driver refuses
//! PTX of a newer compiler, and because nothing is then left for the driver to compile.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::architecture::Architecture;
use super::cache::{self, Cache, Entry};
use super::kernels::{HEADERS, KERNELS, Kernel, Source};
use super::raw::{Nvrtc, NvrtcError};
use super::usage::{self, Usage};
use crate::backend::BackendError;
use crate::tensor::DType;

include!(concat!(env!("OUT_DIR"), "/embedded_cubins.rs"));

/// What is compiled at once: one file for one element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit {
    /// The file.
    pub source: Source,
    /// Of its entries.
    pub dtype: DType,
}

/// How to get a compiler, for messages.
pub const GET_NVRTC: &str = "install NVRTC (pip install nvidia-cuda-nvrtc, or NVIDIA's toolkit), or name its library in \
                             COLLAGE_NVRTC, or use a build with embedded cubins";

impl Unit {
    /// That holds this kernel.
    pub fn of(kernel: &Kernel) -> Self {
        Self {
            source: kernel.source,
            dtype: kernel.dtype,
        }
    }

    /// Every one that has an entry and runs there.
    pub fn all(architecture: Architecture) -> BTreeSet<Unit> {
        let runs = KERNELS.iter().filter(|k| k.source.runs_on(architecture));
        runs.map(Unit::of).collect()
    }

    /// The file without the entries of other types.
    fn text(self) -> String {
        let ending = format!("_{},", self.dtype);
        let other = |line: &&str| line.starts_with("ENTRY(") && !line.contains(&ending);
        let lines = self.source.text().lines().filter(|line| !other(line));
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    /// For people: `conv2d_mma-f16-sm_86`.
    fn name(self, architecture: Architecture) -> String {
        let stem = self.source.file().trim_end_matches(".cu");
        format!("{stem}-{}-{architecture}", self.dtype)
    }

    /// Of all that decides what a compiler makes.
    fn hash(self, architecture: Architecture) -> [u8; 32] {
        let text = self.text();
        let flags = flags(architecture).join(" ");
        let headers = HEADERS.iter().flat_map(|(name, text)| [*name, *text]);
        cache::hash([text.as_str(), flags.as_str()].into_iter().chain(headers))
    }
}

fn flags(architecture: Architecture) -> Vec<String> {
    vec![
        format!("--gpu-architecture={architecture}"),
        "--std=c++17".into(),
        "--ptxas-options=-v".into(),
    ]
}

/// Where cubins come from.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// For messages: what is compiled for.
    device: String,
    cache: Cache,
    /// The newest major of CUDA that the driver takes; none where nothing is loaded.
    newest: Option<u32>,
    embedded: bool,
}

impl Compiler {
    /// For a device whose driver takes cubins up to this major version of CUDA.
    pub fn for_device(device: &str, newest: u32, cache: Cache) -> Self {
        Self {
            device: device.into(),
            cache,
            newest: Some(newest),
            embedded: true,
        }
    }

    fn takes(&self, entry: &Entry) -> bool {
        self.newest.is_none_or(|newest| entry.compiler[0] <= newest)
    }

    /// The units for a device of this architecture, in their order; compiled side by side where several are missing.
    pub fn entries(
        &self,
        units: &[Unit],
        architecture: Architecture,
    ) -> Result<Vec<Entry>, BackendError> {
        let ready: Vec<Mutex<Option<Result<Entry, BackendError>>>> =
            units.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((unit, ready)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                units.get(at).zip(ready.get(at))
            } {
                *super::lock(ready) = Some(self.entry(*unit, architecture));
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        std::thread::scope(|scope| {
            for _ in 1..cores.min(units.len()) {
                scope.spawn(work);
            }
            work();
        });
        let taken = ready.iter().map(|ready| super::lock(ready).take());
        // Every slot was filled: the scope ends after the last.
        taken.flatten().collect()
    }

    fn entry(&self, unit: Unit, device: Architecture) -> Result<Entry, BackendError> {
        if let Some(entry) = self.embedded.then(|| self.embedded(unit, device)).flatten() {
            return Ok(entry);
        }
        let nvrtc = match Nvrtc::find() {
            Ok(nvrtc) if self.newest.is_none_or(|newest| nvrtc.version[0] <= newest) => nvrtc,
            other => return self.without_compiler(unit, device, other),
        };
        let architecture = device.best_of(&nvrtc.architectures).ok_or_else(|| {
            BackendError::WrongArchitecture {
                device: self.device.clone(),
                what: format!(
                    "NVRTC {}.{} does not know {device}, nor an older one of its generation; use a newer NVRTC",
                    nvrtc.version[0], nvrtc.version[1]
                ),
            }
        })?;
        let source = unit.hash(architecture);
        let key = cache::key(&source, nvrtc.version);
        let name = Entry::file_name(&unit.name(architecture), &key);
        if let Some(entry) = self.cache.read(&name, &source) {
            return Ok(entry);
        }
        let entry = self.compile(nvrtc, unit, architecture, source)?;
        if let Err(error) = self.cache.write(&name, &entry) {
            tracing::warn!(%error, "compiled kernels cannot be kept: set COLLAGE_CACHE_DIR to a folder that can be written");
        }
        Ok(entry)
    }

    fn compile(
        &self,
        nvrtc: &Nvrtc,
        unit: Unit,
        architecture: Architecture,
        source: [u8; 32],
    ) -> Result<Entry, BackendError> {
        let (file, text) = (unit.source.file(), unit.text());
        let compiled = nvrtc
            .compile(file, &text, HEADERS, &flags(architecture))
            .map_err(|error| self.failed(unit, architecture, &error))?;
        Ok(Entry {
            source,
            compiler: nvrtc.version,
            log: compiled.log,
            cubin: compiled.cubin,
        })
    }

    fn failed(&self, unit: Unit, architecture: Architecture, error: &NvrtcError) -> BackendError {
        let device = self.device.clone();
        match error {
            NvrtcError::Source(log) => BackendError::Compile {
                device,
                unit: unit.name(architecture),
                log: log.clone(),
            },
            other => BackendError::NoCompiler {
                device,
                unit: unit.name(architecture),
                reason: format!("{}; {GET_NVRTC}", describe(other)),
            },
        }
    }

    /// What embedded cubins hold for this unit, best architecture first.
    fn embedded(&self, unit: Unit, device: Architecture) -> Option<Entry> {
        device.runs().find_map(|architecture| {
            let prefix = format!("{}-", unit.name(architecture));
            let files = EMBEDDED
                .iter()
                .filter(|(name, _)| name.starts_with(&prefix));
            let entries = files.filter_map(|(_, bytes)| Entry::from_bytes(bytes));
            let source = unit.hash(architecture);
            let ours = entries.filter(|e| e.source == source && self.takes(e));
            ours.max_by_key(|e| e.compiler)
        })
    }

    /// Cubins of an earlier compiler serve too where there is none now, or where the one that is there is too new.
    fn without_compiler(
        &self,
        unit: Unit,
        device: Architecture,
        found: Result<&Nvrtc, NvrtcError>,
    ) -> Result<Entry, BackendError> {
        let kept = device.runs().find_map(|architecture| {
            let source = unit.hash(architecture);
            let entries = self.cache.of_source(&unit.name(architecture), &source);
            entries.into_iter().find(|entry| self.takes(entry))
        });
        kept.ok_or_else(|| match found {
            Err(error) => self.failed(unit, device, &error),
            Ok(nvrtc) => BackendError::DriverTooOld {
                device: self.device.clone(),
                driver: format!("CUDA {}", self.newest.unwrap_or_default()),
                needed: format!(
                    "CUDA {} (for what NVRTC compiles; or name an older NVRTC in COLLAGE_NVRTC)",
                    nvrtc.version[0]
                ),
            },
        })
    }
}

/// For people.
pub(super) fn describe(error: &NvrtcError) -> String {
    match error {
        NvrtcError::Missing => "NVRTC was not found".into(),
        NvrtcError::NotLoaded(path) => {
            format!("COLLAGE_NVRTC: {} cannot be loaded", path.display())
        }
        NvrtcError::NoFunction(name) => format!("NVRTC has no {name}: it is too old"),
        NvrtcError::Refused(call, status) => format!("{call}: status {status}"),
        NvrtcError::Source(log) => log.clone(),
    }
}

/// Whether some kernel can be had: embedded, or by a compiler. The error says how to get one.
pub(super) fn check_source(device: Architecture) -> Result<String, String> {
    let prefixes: Vec<String> = device.runs().map(|a| format!("-{a}-")).collect();
    let embedded = |(name, _): &&(&str, &[u8])| prefixes.iter().any(|p| name.contains(p));
    match Nvrtc::find() {
        Ok(nvrtc) => Ok(format!("NVRTC {}.{}", nvrtc.version[0], nvrtc.version[1])),
        Err(_) if EMBEDDED.iter().any(|e| embedded(&e)) => Ok("embedded cubins".into()),
        Err(error) => Err(describe(&error)),
    }
}

/// Compiles every kernel for each of these architectures, without a GPU, and says what each entry uses. Files go to `out`
/// as the cache keeps them, so that a build with `COLLAGE_EMBED_CUBINS=out` embeds them, and so that what is there already
/// is not compiled again. An empty list means all of [`Architecture::ALL`].
///
/// # Errors
/// [`BackendError::NoCompiler`] where there is no NVRTC, [`BackendError::WrongArchitecture`] where it does not know one,
/// [`BackendError::Compile`] where a kernel does not compile, [`BackendError::Driver`] where `out` cannot be written.
pub fn compile_all(
    architectures: &[Architecture],
    out: Option<&Path>,
) -> Result<Vec<Usage>, BackendError> {
    let architectures = match architectures {
        [] => &Architecture::ALL[..],
        given => given,
    };
    if let Some(out) = out {
        std::fs::create_dir_all(out).map_err(|e| BackendError::Driver {
            device: out.display().to_string(),
            call: "create_dir_all",
            reason: e.to_string(),
        })?;
    }
    let mut usages = Vec::new();
    for &architecture in architectures {
        let compiler = Compiler {
            device: architecture.to_string(),
            cache: out.map_or_else(Cache::of_user, Cache::at),
            newest: None,
            embedded: false,
        };
        let units: Vec<Unit> = Unit::all(architecture).into_iter().collect();
        let entries = compiler.entries(&units, architecture)?;
        for entry in &entries {
            usages.extend(usage::read(&entry.log, architecture));
        }
    }
    Ok(usages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_keep_the_entries_of_their_type_alone() {
        for architecture in Architecture::ALL {
            for unit in Unit::all(architecture) {
                let text = unit.text();
                let entries = text.lines().filter(|line| line.starts_with("ENTRY("));
                let names: Vec<&str> = entries
                    .filter_map(|line| line.strip_prefix("ENTRY(")?.split(',').next())
                    .collect();
                let ours = KERNELS.iter().filter(|k| Unit::of(k) == unit);
                let ours: Vec<&str> = ours.map(|k| k.entry).collect();
                assert_eq!(names, ours, "{unit:?}: as the table lists them");
            }
        }
    }

    #[test]
    fn keys_differ_by_unit_and_architecture() {
        let mut seen = BTreeSet::new();
        let mut all = 0;
        for architecture in Architecture::ALL {
            for unit in Unit::all(architecture) {
                seen.insert(unit.hash(architecture));
                all += 1;
            }
        }
        assert_eq!(seen.len(), all);
    }
}
