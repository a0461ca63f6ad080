//! The shaders as sources, entry points and bindings, and the generator that puts the element type in front of them.

use crate::tensor::DType;

/// How a shader uses one binding; the binding's number is its place in [`Shader::bindings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// Arguments.
    Uniform,
    /// A buffer that no dispatch writes.
    Read,
    /// A range of the arena or another buffer that a dispatch writes.
    Write,
}

/// One entry point.
#[derive(Debug)]
pub struct Shader {
    /// Of the entry point; also the label of its pipelines.
    pub name: &'static str,
    /// Files, to be joined in this order.
    parts: &'static [&'static str],
    /// Whether it reads and writes whole words (`W`, `wide`, `stored`), which needs `SHADER_INT64`.
    words: bool,
    /// In the order of binding numbers.
    pub bindings: &'static [Bind],
}

use Bind::{Read, Uniform, Write};

const CONV2D_BINDINGS: &[Bind] = &[Uniform, Write, Write, Write, Read, Read];
const CONV2D_BROADCAST_PARTS: &[&str] = &[
    include_str!("../../../shaders/conv2d.wgsl"),
    include_str!("../../../shaders/conv2d_broadcast.wgsl"),
];
const CONV2D_WINOGRAD_PARTS: &[&str] = &[include_str!("../../../shaders/conv2d_winograd.wgsl")];
const CONV2D_WINOGRAD_BINDINGS: &[Bind] = &[Uniform, Write, Write, Write, Write, Write, Read, Read];
/// Four floats as two words: a software adapter takes as long to load or store a word as a float.
const WORDS: &str = "
alias Words = vec2<u64>;

fn unpack(w: Words) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4(u32(w.x), u32(w.x >> 32u), u32(w.y), u32(w.y >> 32u)));
}

fn pack(v: vec4<f32>) -> Words {
    let b = bitcast<vec4<u32>>(v);
    return vec2(u64(b.x) | (u64(b.y) << 32u), u64(b.z) | (u64(b.w) << 32u));
}
";
/// `W` is a vector of four elements in memory, `wide` and `stored` convert it.
const WIDE_WORDS: &str = "
alias W = Words;
fn wide(w: W) -> vec4<f32> { return unpack(w); }
fn stored(v: vec4<f32>) -> W { return pack(v); }
";
/// As [`WIDE_WORDS`], of elements.
const WIDE_ELEMENTS: &str = "
alias W = E4;
fn wide(w: W) -> vec4<f32> { return vec4<f32>(w); }
fn stored(v: vec4<f32>) -> W { return E4(v); }
";
const ENCODE_PARTS: &[&str] = &[include_str!("../../../shaders/encode.wgsl")];
const ENCODE_BINDINGS: &[Bind] = &[Uniform, Read, Write, Read, Write, Read, Uniform];

pub static CONV2D_TILED: Shader = Shader {
    name: "conv2d_tiled",
    parts: &[
        include_str!("../../../shaders/conv2d.wgsl"),
        include_str!("../../../shaders/conv2d_tiled.wgsl"),
    ],
    words: false,
    bindings: CONV2D_BINDINGS,
};
pub static CONV2D_BROADCAST: Shader = Shader {
    name: "conv2d_broadcast",
    parts: CONV2D_BROADCAST_PARTS,
    words: true,
    bindings: CONV2D_BINDINGS,
};
pub static CONV2D_BROADCAST_ROWS: Shader = Shader {
    name: "conv2d_broadcast_rows",
    parts: CONV2D_BROADCAST_PARTS,
    words: true,
    bindings: CONV2D_BINDINGS,
};
pub static CONV2D_WINOGRAD_INPUT: Shader = Shader {
    name: "conv2d_winograd_input",
    parts: CONV2D_WINOGRAD_PARTS,
    words: true,
    bindings: CONV2D_WINOGRAD_BINDINGS,
};
pub static CONV2D_WINOGRAD_PRODUCT: Shader = Shader {
    name: "conv2d_winograd_product",
    parts: CONV2D_WINOGRAD_PARTS,
    words: true,
    bindings: CONV2D_WINOGRAD_BINDINGS,
};
pub static CONV2D_WINOGRAD_OUTPUT: Shader = Shader {
    name: "conv2d_winograd_output",
    parts: CONV2D_WINOGRAD_PARTS,
    words: true,
    bindings: CONV2D_WINOGRAD_BINDINGS,
};
pub static CONV2D_UNFOLD: Shader = Shader {
    name: "conv2d_unfold",
    parts: &[include_str!("../../../shaders/conv2d_unfold.wgsl")],
    words: true,
    bindings: &[Uniform, Write, Write],
};
pub static MAX_POOL2D: Shader = Shader {
    name: "max_pool2d",
    parts: &[include_str!("../../../shaders/max_pool2d.wgsl")],
    words: false,
    bindings: &[Uniform, Write, Write],
};
pub static AVG_POOL2D: Shader = Shader {
    name: "avg_pool2d",
    parts: &[include_str!("../../../shaders/avg_pool2d.wgsl")],
    words: false,
    bindings: &[Uniform, Write, Write],
};
pub static LINEAR: Shader = Shader {
    name: "linear",
    parts: &[include_str!("../../../shaders/linear.wgsl")],
    words: false,
    bindings: &[Uniform, Write, Write, Read, Read],
};
pub static TOP_K: Shader = Shader {
    name: "top_k",
    parts: &[include_str!("../../../shaders/top_k.wgsl")],
    words: false,
    bindings: &[Uniform, Write, Write],
};
pub static ENCODE_COLUMNS: Shader = Shader {
    name: "encode_columns",
    parts: ENCODE_PARTS,
    words: false,
    bindings: ENCODE_BINDINGS,
};
pub static ENCODE_ROWS: Shader = Shader {
    name: "encode_rows",
    parts: ENCODE_PARTS,
    words: false,
    bindings: ENCODE_BINDINGS,
};

impl Shader {
    /// The source for one element type: `E` is an element in memory and `E4` a vector of four.
    pub fn source(&self, dtype: DType) -> String {
        let element = match dtype {
            DType::F32 => "alias E = f32;\nalias E4 = vec4<f32>;\n",
            DType::F16 => "enable f16;\nalias E = f16;\nalias E4 = vec4<f16>;\n",
            // WGSL has no such type, and the device refuses such plans at load.
            DType::Bf16 => "",
        };
        let mut source = String::from(element);
        source.push_str(if self.words { WORDS } else { "" });
        source.push_str(match (self.words, dtype) {
            (true, DType::F32) => WIDE_WORDS,
            _ => WIDE_ELEMENTS,
        });
        self.parts.iter().for_each(|part| source.push_str(part));
        source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shader_declares_its_entry_and_its_bindings() {
        for shader in [
            &CONV2D_TILED,
            &CONV2D_BROADCAST,
            &CONV2D_BROADCAST_ROWS,
            &CONV2D_WINOGRAD_INPUT,
            &CONV2D_WINOGRAD_PRODUCT,
            &CONV2D_WINOGRAD_OUTPUT,
            &CONV2D_UNFOLD,
            &MAX_POOL2D,
            &AVG_POOL2D,
            &LINEAR,
            &TOP_K,
            &ENCODE_COLUMNS,
            &ENCODE_ROWS,
        ] {
            let source = shader.source(DType::F16);
            assert!(source.starts_with("enable f16;"));
            assert!(
                source.contains(&format!("fn {}(", shader.name)),
                "{}",
                shader.name
            );
            for (i, bind) in shader.bindings.iter().enumerate() {
                let space = match bind {
                    Bind::Uniform => "<uniform>",
                    Bind::Read => "<storage, read>",
                    Bind::Write => "<storage, read_write>",
                };
                let declared = format!("@group(0) @binding({i}) var{space}");
                assert!(source.contains(&declared), "{}: {declared}", shader.name);
            }
            assert!(!source.contains(&format!("@binding({})", shader.bindings.len())));
        }
    }
}
