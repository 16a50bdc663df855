//! What the README says of settings is what the program takes.
use headwater_cli::settings::TABLE;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_names_every_setting_with_its_default_and_no_other() {
    for setting in TABLE {
        let default = if setting.default.is_empty() { String::new() } else { format!("`{}` ", setting.default) };
        let row = format!("| `{}` | {default}| ", setting.variable);
        assert!(README.contains(&row), "README.md has no row that begins with {row}");
    }
    let rows = README.lines().skip_while(|line| !line.starts_with("| variable | default |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with("| `")).count();
    assert_eq!(rows, TABLE.len());
}
