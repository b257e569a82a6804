//! `mizzen cdi generate`: the specs of this machine.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use mizzen_agent::cdi::{SpecStore, hook, to_json};
use mizzen_agent::is_device;
use mizzen_core::cdi::{CdiKind, CdiSpec, SpecOptions};
use mizzen_core::config::Config;
use mizzen_core::shell::quoted;
use mizzen_nvml::HostRoot;

use super::args::{GenerateArgs, SpecForm};
use super::{UNUSABLE, make, misunderstood, print};

/// Carries the command out.
pub(super) fn run(args: &GenerateArgs) -> Result<ExitCode> {
    // Most code that is mapped by now is that of the arguments and their help.
    mizzen_nvml::release_start_code();
    let made = make::kinds(&args.make).and_then(|kinds| make::specs(&args.make, &kinds));
    let made = match made {
        Ok(made) => made,
        Err(error) => return Ok(misunderstood(&error)),
    };
    for kind in &made.empty {
        eprintln!("mizzen cdi: this machine has no device of the kind {kind}");
    }
    if args.output_dir.is_none() && args.output == Path::new("-") {
        show(&made.specs, args.format)?;
    } else if let Err(error) = put(&made.specs, args) {
        return Ok(misunderstood(&error));
    }
    if !made.specs.is_empty() {
        note_missing_hook(&args.make.config());
    }
    Ok(if made.empty.is_empty() {
        ExitCode::SUCCESS
    } else {
        UNUSABLE.into()
    })
}

/// Says it if the program that the specs name for hooks is not on the machine, since containers do
/// not start without it.
fn note_missing_hook(config: &Config) {
    let options = SpecOptions::of_config(config);
    let Some(path) = options.hooks.path() else {
        return;
    };
    let found = HostRoot::new(&config.host_root).resolve(path);
    if found.is_ok_and(|found| found.exists()) {
        return;
    }
    let way = if config.cdi_hook_path.is_some() {
        "install it".to_owned()
    } else {
        let dir = hook::directory(config);
        let is_usual = dir == Config::default().hook_dir;
        let dir = (!is_usual).then(|| format!(" --dir {}", quoted(&dir.to_string_lossy())));
        let dir = dir.unwrap_or_default();
        format!("`mizzen hook install{dir}` installs it")
    };
    eprintln!(
        "mizzen cdi: {path}, which the specs name for hooks, is not on the machine, and containers \
         will not start without it: {way}"
    );
}

fn show(specs: &[CdiSpec], form: SpecForm) -> Result<()> {
    for (at, spec) in specs.iter().enumerate() {
        if at > 0 && form == SpecForm::Yaml {
            print("---\n")?;
        }
        print(&text(spec, form)?)?;
    }
    Ok(())
}

fn put(specs: &[CdiSpec], args: &GenerateArgs) -> Result<()> {
    if let Some(directory) = &args.output_dir {
        return put_each(specs, directory, args.format);
    }
    let [spec] = specs else {
        return Err(anyhow!(
            "a file holds one kind; use --output-dir for {} of them",
            specs.len()
        ));
    };
    put_one(spec, &args.output, args.format)
}

fn put_each(specs: &[CdiSpec], directory: &Path, form: SpecForm) -> Result<()> {
    for spec in specs {
        let kind: CdiKind = spec.kind.parse()?;
        let extension = match form {
            SpecForm::Json => "json",
            SpecForm::Yaml => "yaml",
        };
        put_one(spec, &directory.join(kind.file_name(extension)), form)?;
    }
    Ok(())
}

fn put_one(spec: &CdiSpec, path: &Path, form: SpecForm) -> Result<()> {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let store = SpecStore::new(parent.unwrap_or(Path::new(".")));
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} is no name of a file", path.display()))?;
    let text = text(spec, form)?;
    let written = if is_device(path) {
        fs::write(path, text)
    } else {
        store.put(name, text.as_bytes()).map(drop)
    };
    written.with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!(
        "{}: {} with {}",
        path.display(),
        spec.kind,
        crate::words::counted(spec.devices.len(), "device name")
    );
    Ok(())
}

fn text(spec: &CdiSpec, form: SpecForm) -> Result<String> {
    Ok(match form {
        SpecForm::Json => String::from_utf8(to_json(spec))?,
        SpecForm::Yaml => serde_saphyr::to_string(spec)?,
    })
}
