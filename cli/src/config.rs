//! `headwater config`: the effective settings as TOML, each with its source.
use crate::{
    Error, print,
    settings::{Resolved, Source},
};

pub(crate) fn print(resolved: &[Resolved]) -> Result<(), Error> {
    print::print("the settings", render(resolved))
}

fn render(resolved: &[Resolved]) -> String {
    let lines: Vec<_> = resolved.iter().map(|value| (line(value), comment(value))).collect();
    let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or_default();
    lines.into_iter().map(|(line, comment)| format!("{line:width$}  # {comment}\n")).collect()
}

fn line(value: &Resolved) -> String {
    let key = value.setting.key;
    match value.text.as_str() {
        "" => format!("# {key} is unset"),
        _ if value.setting.secret => format!("# {key} is set and hidden"),
        text => format!("{key} = {}", toml::Value::from(text)),
    }
}

fn comment(value: &Resolved) -> String {
    match &value.source {
        Source::Default => format!("{} [{}]", value.setting.help, value.setting.variable),
        source => format!("from {source}: {}", value.setting.help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    #[test]
    fn what_is_printed_is_toml_that_reads_back_the_same_and_holds_no_secret() {
        let environment = [("DATABASE_URL", "postgres://ada:hunter2@db"), ("HTTP_PORT", "8001")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.into())).into();
        let resolved = Sources { environment, ..Sources::default() }.resolve().unwrap();
        let text = render(&resolved);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("http_port = \"8001\"") && text.contains("from HTTP_PORT"), "{text}");

        let file = Some(("again.toml".into(), text.parse().unwrap()));
        let again = Sources { file, ..Sources::default() }.resolve().unwrap();
        for (first, second) in resolved.iter().zip(&again).filter(|(first, _)| !first.setting.secret) {
            assert_eq!(first.text, second.text);
        }
    }
}
