//! What was typed.

use crate::csv::{Column, Query};
use crate::help;
use crate::outcome::Failure;
use crate::{apps, fields};

/// What is asked for, and of which GPUs; of all if none is named.
#[derive(Debug)]
pub(crate) enum Command {
    /// Something that needs no driver.
    Say(String),
    Version,
    List(Vec<String>),
    Table(Vec<String>),
    QueryGpus(Query, Vec<String>),
    QueryApps(Query, Vec<String>),
}

/// The options as they stand, before they are held against each other.
#[derive(Debug, Default)]
struct Typed {
    list: bool,
    gpus: Vec<String>,
    query_gpus: Option<String>,
    query_apps: Option<String>,
    format: Option<String>,
}

/// Reads the arguments behind the program's name.
pub(crate) fn parse(arguments: &[String]) -> Result<Command, Failure> {
    let mut typed = Typed::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut value = || {
            value
                .clone()
                .or_else(|| rest.next().cloned())
                .ok_or_else(mistake)
        };
        match option {
            "-h" | "--help" => return Ok(Command::Say(help::TEXT.to_owned())),
            "--version" => return Ok(Command::Version),
            "--help-query-gpu" => return Ok(Command::Say(help::columns(fields::columns()))),
            "--help-query-compute-apps" => {
                return Ok(Command::Say(help::columns(apps::COLUMNS.iter())));
            }
            "-L" | "--list-gpus" => typed.list = true,
            "-i" | "--id" => typed.gpus = value()?.split(',').map(str::to_owned).collect(),
            "--query-gpu" => typed.query_gpus = Some(value()?),
            "--query-compute-apps" => typed.query_apps = Some(value()?),
            "--format" => typed.format = Some(value()?),
            _ => return Err(mistake()),
        }
    }
    typed.command()
}

impl Typed {
    fn command(self) -> Result<Command, Failure> {
        let gpus = self.gpus;
        match (self.list, self.query_gpus, self.query_apps, self.format) {
            (false, None, None, None) => Ok(Command::Table(gpus)),
            (true, None, None, None) => Ok(Command::List(gpus)),
            (false, Some(names), None, format) => {
                let query = query(&names, &fields::columns(), format.as_deref())?;
                Ok(Command::QueryGpus(query, gpus))
            }
            (false, None, Some(names), format) => {
                let query = query(&names, &apps::COLUMNS.iter(), format.as_deref())?;
                Ok(Command::QueryApps(query, gpus))
            }
            _ => Err(mistake()),
        }
    }
}

fn query(
    names: &str,
    known: &(impl Iterator<Item = &'static Column> + Clone),
    format: Option<&str>,
) -> Result<Query, Failure> {
    let column = |name: &str| {
        let name = name.trim();
        let mut known = known.clone();
        let unknown = || {
            Failure::Arguments(format!(
                "Field \"{name}\" is not a valid field to query.\n\n"
            ))
        };
        known.find(|column| column.is(name)).ok_or_else(unknown)
    };
    let columns = names.split(',').map(column).collect::<Result<_, _>>()?;
    let mut query = Query {
        columns,
        header: true,
        units: true,
    };
    let mut csv = false;
    for word in format.unwrap_or_default().split(',').map(str::trim) {
        match word {
            "csv" => csv = true,
            "noheader" => query.header = false,
            "nounits" => query.units = false,
            _ => return Err(mistake()),
        }
    }
    if csv { Ok(query) } else { Err(mistake()) }
}

fn mistake() -> Failure {
    let text = "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n\n";
    Failure::Arguments(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&arguments).map_err(|failure| match failure {
            Failure::Arguments(text) => text.trim_end().to_owned(),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn a_value_stands_behind_an_equals_sign_or_by_itself() {
        for line in ["-i 0,GPU-1 -L", "--id=0,GPU-1 --list-gpus"] {
            let Ok(Command::List(gpus)) = parsed(line) else {
                panic!("{line}")
            };
            assert_eq!(gpus, ["0", "GPU-1"]);
        }
    }

    #[test]
    fn a_query_knows_each_column_by_all_its_names() {
        let line = "--query-gpu=gpu_name,clocks.sm,uuid --format=csv,noheader,nounits";
        let Ok(Command::QueryGpus(query, _)) = parsed(line) else {
            panic!()
        };
        let names: Vec<&str> = query.columns.iter().map(|column| column.name).collect();
        assert_eq!(names, ["name", "clocks.current.sm", "uuid"]);
        assert!(!query.header && !query.units);
    }

    #[test]
    fn mistakes_are_told_in_the_words_that_scripts_look_for() {
        assert_eq!(
            parsed("--query-gpu=name,cuda_version --format=csv").unwrap_err(),
            "Field \"cuda_version\" is not a valid field to query."
        );
        for line in [
            "--query-gpu=name",
            "--query-gpu=name --format=xml",
            "--query-gpu=name --format=csv -L",
            "--query-gpu",
            "--frobnicate",
            "-L --format=csv",
        ] {
            let told = parsed(line).unwrap_err();
            assert!(told.starts_with("Invalid combination"), "{line}: {told}");
        }
    }
}
