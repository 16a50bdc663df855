//! Dead letters: of every group exactly what was spoilt on purpose, and of that no record may be missing.
use std::collections::BTreeSet;

use headwater_stream::{Record, dead_letter_header, reader::scan_topic};

use super::{quiet, table::Row};
use crate::{Error, Target, simulate::Poison};

/// A letter may lie there twice, where its consumer died before its offset was committed.
pub(crate) async fn dead_letters(target: &Target, poison: &BTreeSet<Poison>) -> Result<Row, Error> {
    let mut row = Row::new("dead letters");
    for topic in quiet::GROUPS.iter().filter_map(|group| group.dead_letters).map(|topic| topic.name) {
        let add = |found: &mut Vec<Option<Poison>>, record: &Record<'_>| found.push(origin(record));
        let found = scan_topic(&target.kafka(), topic, Vec::new(), add).await?;
        let strange = found.iter().filter(|origin| origin.is_none()).count();
        row.check(format_args!("letters without an origin in {topic}"), &0, &strange);
        let found: BTreeSet<Poison> = found.into_iter().flatten().collect();
        for origin in poison.union(&found) {
            let place =
                format_args!("{topic}: of partition {}, offset {}", origin.partition, origin.offset).to_string();
            row.compare(place, poison.contains(origin).then_some(()), found.contains(origin).then_some(()));
        }
    }
    Ok(row)
}

fn origin(letter: &Record<'_>) -> Option<Poison> {
    let number = |name| std::str::from_utf8(letter.headers.get(name)?).ok();
    Some(Poison {
        partition: number(dead_letter_header::PARTITION)?.parse().ok()?,
        offset: number(dead_letter_header::OFFSET)?.parse().ok()?,
    })
}
