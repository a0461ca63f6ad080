//! NVRTC, the compiler as a library: found where toolkits, distributions and pip put it, or where `COLLAGE_NVRTC` says.

use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

use super::library::{functions, open};

functions! {
    /// The functions of NVRTC that are called, as every version since CUDA 11.2 has them.
    Functions -> c_int {
        fn nvrtcVersion(*mut c_int, *mut c_int);
        fn nvrtcGetNumSupportedArchs(*mut c_int);
        fn nvrtcGetSupportedArchs(*mut c_int);
        fn nvrtcCreateProgram(*mut *mut c_void, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char);
        fn nvrtcDestroyProgram(*mut *mut c_void);
        fn nvrtcCompileProgram(*mut c_void, c_int, *const *const c_char);
        fn nvrtcGetCUBINSize(*mut c_void, *mut usize);
        fn nvrtcGetCUBIN(*mut c_void, *mut c_char);
        fn nvrtcGetProgramLogSize(*mut c_void, *mut usize);
        fn nvrtcGetProgramLog(*mut c_void, *mut c_char);
    }
}

/// Why nothing was compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NvrtcError {
    /// It is in none of the places where it was looked for.
    Missing,
    /// The file that `COLLAGE_NVRTC` names cannot be loaded.
    NotLoaded(PathBuf),
    /// It lacks this function: it is older than CUDA 11.2.
    NoFunction(&'static str),
    /// A call failed, with NVRTC's own number.
    Refused(&'static str, i32),
    /// The source has an error: the compiler's log.
    Source(String),
}

/// A compiled source.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// For the architecture that was asked for.
    pub cubin: Vec<u8>,
    /// Warnings, and with `--ptxas-options=-v` what each entry uses.
    pub log: String,
}

/// A loaded NVRTC.
pub struct Nvrtc {
    functions: Functions,
    /// Major and minor.
    pub version: [u32; 2],
    /// Compute capabilities times ten, ascending.
    pub architectures: Vec<u32>,
}

impl Nvrtc {
    /// Looked for once in the life of the process.
    pub fn find() -> Result<&'static Nvrtc, NvrtcError> {
        static FOUND: OnceLock<Result<Nvrtc, NvrtcError>> = OnceLock::new();
        FOUND.get_or_init(search).as_ref().map_err(Clone::clone)
    }

    fn of(library: &'static Library) -> Result<Self, NvrtcError> {
        let functions = Functions::of(library).map_err(NvrtcError::NoFunction)?;
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: NVRTC writes ints to live, aligned ones.
        refused("nvrtcVersion", unsafe {
            (functions.nvrtcVersion)(&mut major, &mut minor)
        })?;
        // SAFETY: as above.
        refused("nvrtcGetNumSupportedArchs", unsafe {
            (functions.nvrtcGetNumSupportedArchs)(&mut count)
        })?;
        let mut list = vec![0 as c_int; count.unsigned_abs() as usize];
        // SAFETY: NVRTC writes as many ints as it has just said.
        refused("nvrtcGetSupportedArchs", unsafe {
            (functions.nvrtcGetSupportedArchs)(list.as_mut_ptr())
        })?;
        let mut architectures: Vec<u32> = list.iter().map(|a| a.unsigned_abs()).collect();
        architectures.sort_unstable();
        Ok(Self {
            functions,
            version: [major.unsigned_abs(), minor.unsigned_abs()],
            architectures,
        })
    }

    /// Compiles a source, which finds `headers` (name, text) by their names. Several threads may do so at once.
    pub fn compile(
        &self,
        name: &str,
        source: &str,
        headers: &[(&str, &str)],
        options: &[String],
    ) -> Result<Compiled, NvrtcError> {
        let (name, source) = (text(name), text(source));
        let names: Vec<CString> = headers.iter().map(|(name, _)| text(name)).collect();
        let texts: Vec<CString> = headers.iter().map(|(_, source)| text(source)).collect();
        let [names, texts] =
            [&names, &texts].map(|all| all.iter().map(|t| t.as_ptr()).collect::<Vec<_>>());
        let mut handle = std::ptr::null_mut();
        // SAFETY: all texts are zero-terminated and live through the call, both lists have `headers.len()` of them, and
        // NVRTC writes one handle.
        refused("nvrtcCreateProgram", unsafe {
            (self.functions.nvrtcCreateProgram)(
                &mut handle,
                source.as_ptr(),
                name.as_ptr(),
                headers.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            )
        })?;
        let program = Program {
            functions: &self.functions,
            handle,
        };
        program.compile(options)
    }
}

/// A source on its way.
struct Program<'a> {
    functions: &'a Functions,
    handle: *mut c_void,
}

impl Program<'_> {
    fn compile(&self, options: &[String]) -> Result<Compiled, NvrtcError> {
        let options: Vec<CString> = options.iter().map(|o| text(o)).collect();
        let list: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        // SAFETY: the program is live; the options are zero-terminated and live through the call.
        let status = unsafe {
            (self.functions.nvrtcCompileProgram)(self.handle, list.len() as c_int, list.as_ptr())
        };
        let log = self.log().unwrap_or_default();
        if status != 0 {
            let log = log.trim();
            return Err(if log.is_empty() {
                NvrtcError::Refused("nvrtcCompileProgram", status)
            } else {
                NvrtcError::Source(log.into())
            });
        }
        let mut size = 0usize;
        // SAFETY: the program is live, and NVRTC writes one size.
        refused("nvrtcGetCUBINSize", unsafe {
            (self.functions.nvrtcGetCUBINSize)(self.handle, &mut size)
        })?;
        let mut cubin = vec![0u8; size];
        // SAFETY: the program is live, and NVRTC writes as many bytes as it has just said.
        refused("nvrtcGetCUBIN", unsafe {
            (self.functions.nvrtcGetCUBIN)(self.handle, cubin.as_mut_ptr().cast())
        })?;
        Ok(Compiled { cubin, log })
    }

    fn log(&self) -> Result<String, NvrtcError> {
        let mut size = 0usize;
        // SAFETY: the program is live, and NVRTC writes one size.
        refused("nvrtcGetProgramLogSize", unsafe {
            (self.functions.nvrtcGetProgramLogSize)(self.handle, &mut size)
        })?;
        let mut log = vec![0u8; size + 1];
        // SAFETY: the program is live, and NVRTC writes as many bytes as it has just said.
        refused("nvrtcGetProgramLog", unsafe {
            (self.functions.nvrtcGetProgramLog)(self.handle, log.as_mut_ptr().cast())
        })?;
        let text = CStr::from_bytes_until_nul(&log).unwrap_or_default();
        Ok(text.to_string_lossy().into_owned())
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: created by `Nvrtc::compile`, destroyed once.
        unsafe { (self.functions.nvrtcDestroyProgram)(&mut self.handle) };
    }
}

fn refused(call: &'static str, status: c_int) -> Result<(), NvrtcError> {
    match status {
        0 => Ok(()),
        status => Err(NvrtcError::Refused(call, status)),
    }
}

/// Texts of this crate, which hold no zero byte.
fn text(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn search() -> Result<Nvrtc, NvrtcError> {
    if let Some(path) = std::env::var_os("COLLAGE_NVRTC").filter(|p| !p.is_empty()) {
        let path = PathBuf::from(path);
        let library = load(&path).ok_or(NvrtcError::NotLoaded(path))?;
        return Nvrtc::of(library);
    }
    let named = NAMES.iter().find_map(|name| open(name.as_ref()));
    let library = named.or_else(|| folders().iter().find_map(|folder| in_folder(folder)));
    Nvrtc::of(library.ok_or(NvrtcError::Missing)?)
}

/// By the loader's own search.
const NAMES: &[&str] = &[
    "libnvrtc.so.13",
    "libnvrtc.so.12",
    "libnvrtc.so",
    "nvrtc64_130_0.dll",
    "nvrtc64_120_0.dll",
];

/// Loads a file; before it its built-in functions, which lie beside it and which it would look for by name alone.
fn load(path: &Path) -> Option<&'static Library> {
    let beside = path.parent().map(entries).unwrap_or_default();
    for entry in beside {
        let name = entry
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.contains("nvrtc-builtins") && !name.contains(".alt.") {
            open(entry.as_os_str());
        }
    }
    open(path.as_os_str())
}

fn in_folder(folder: &Path) -> Option<&'static Library> {
    let is_nvrtc = |path: &PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let known = name.starts_with("libnvrtc.so") || name.starts_with("nvrtc64_");
        known && !name.contains(".alt.")
    };
    let mut found: Vec<PathBuf> = entries(folder).into_iter().filter(is_nvrtc).collect();
    found.sort(); // the newest last
    found.iter().rev().find_map(|path| load(path))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder).into_iter().flatten();
    read.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Where toolkits and pip's `nvidia-cuda-nvrtc` put it.
fn folders() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v: &OsString| !v.is_empty());
    let mut folders = Vec::new();
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].map(variable);
    for toolkit in toolkits.into_iter().flatten().map(PathBuf::from) {
        folders.extend(["lib64", "lib", "bin", "bin/x64"].map(|f| toolkit.join(f)));
    }
    folders.extend(["/usr/local/cuda/lib64", "/opt/cuda/lib64"].map(PathBuf::from));
    let home = variable("HOME").map(|home| PathBuf::from(home).join(".local"));
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].map(variable);
    let roots = environments.into_iter().flatten().map(PathBuf::from);
    for root in roots.chain(home).chain([PathBuf::from("/usr/local")]) {
        folders.push(root.join("lib"));
        folders.extend(pip_folders(&root));
    }
    folders
}

/// `lib/python3.*/site-packages/nvidia/{cu13,cuda_nvrtc}/lib` and the like.
fn pip_folders(root: &Path) -> Vec<PathBuf> {
    let is_python = |path: &PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.starts_with("python3")
    };
    let pythons = entries(&root.join("lib")).into_iter().filter(is_python);
    let packages = pythons.flat_map(|p| ["site-packages", "dist-packages"].map(|s| p.join(s)));
    let packages = packages.chain([root.join("Lib/site-packages")]); // Windows
    let vendor = packages.flat_map(|p| entries(&p.join("nvidia")));
    vendor
        .flat_map(|package| ["lib", "bin", "bin/x86_64"].map(|f| package.join(f)))
        .collect()
}
