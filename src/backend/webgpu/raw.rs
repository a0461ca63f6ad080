//! The one unsafe call of this backend: shaders without the checks that wgpu would add to them.
//!
//! On a software adapter the added bounds checks and loop counters cost more than the arithmetic that they guard.

/// A module of this crate's own shaders, without added checks.
pub(super) fn own_shader(device: &wgpu::Device, label: &str, source: String) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    };
    // SAFETY: the source is one of the files in shaders/, compiled into this crate. Every loop there counts to a
    // bound taken from its arguments, every divisor is an extent that `check` proved positive, and every index lies
    // within its binding: extents come from a plan that passed `check`, ranges are bound as long as those extents
    // say, and invocations beyond the last element return or are clamped before they read or write.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}
