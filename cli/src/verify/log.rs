//! The log itself: every accepted event, unaltered, in its user's order, and nothing but these and their verdicts.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use headwater_proto::{topics::USER_EVENTS, v1::EventEnvelope};
use headwater_stream::{Record, reader::scan_topic};
use prost::Message as _;

use super::{
    expected::Expected,
    facts::{Fact, read},
    table::Row,
};
use crate::{Error, Target, simulate::Poison};

/// What user.events holds.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Where each user's events are.
    users: BTreeMap<String, UserLog>,
    /// Partitions whose oldest records are no longer kept.
    truncated: BTreeSet<i32>,
    altered: Vec<String>,
    /// Ever written: one past the last offset, over all partitions.
    ends: BTreeMap<i32, i64>,
    /// When the oldest record was written.
    pub first_at: Option<i64>,
}

#[derive(Debug, Default)]
struct UserLog {
    partitions: BTreeSet<i32>,
    /// In log order, repeats too.
    ids: Vec<String>,
}

impl Log {
    pub(crate) fn records(&self) -> i64 {
        self.ends.values().sum()
    }

    /// Reads the whole topic; contents are compared on the way, so that they need not be kept.
    /// What was spoilt on purpose is counted and not judged.
    pub(crate) async fn read(
        target: &Target,
        expected: &Arc<Expected>,
        poison: &BTreeSet<Poison>,
    ) -> Result<Self, Error> {
        let (known, poison) = (Known::of(expected.clone()), poison.clone());
        let fold = move |log: &mut Self, record: &Record<'_>| {
            let spoilt = Poison { partition: record.position.partition, offset: record.position.offset };
            log.add(record, (!poison.contains(&spoilt)).then_some(&known));
        };
        Ok(scan_topic(&target.kafka(), USER_EVENTS.name, Self::default(), fold).await?)
    }

    /// Without `known` the record is only counted.
    fn add(&mut self, record: &Record<'_>, known: Option<&Known>) {
        let (partition, offset) = (record.position.partition, record.position.offset);
        if !self.ends.contains_key(&partition) && offset > 0 {
            self.truncated.insert(partition);
        }
        self.ends.insert(partition, offset + 1);
        self.first_at = self.first_at.into_iter().chain(record.timestamp).min();
        let Some(known) = known else { return };
        let key = String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned();
        let Ok(envelope) = EventEnvelope::decode(record.value.unwrap_or_default()) else {
            self.altered.push(format!("partition {partition}, offset {offset}: not an EventEnvelope in protobuf"));
            return;
        };
        let fact = read(envelope);
        if let Some(altered) = known.alteration(&fact, &key) {
            self.altered.push(altered);
        }
        let user = self.users.entry(key).or_default();
        user.partitions.insert(partition);
        user.ids.push(fact.event_id);
    }

    /// `straight`: ids that were written a second time past the ingress, after everything else.
    pub(crate) fn rows(self, expected: &Expected, straight: &HashSet<&str>) -> Vec<Row> {
        let mut events = Row { differences: self.altered, ..Row::new("events on the log") };
        let mut order = Row::new("users whose events are in order");
        let mut verdicts = Row::new("verdicts on the log");
        let mut repeats = Row { expected: straight.len(), ..Row::new("repeated records") };
        let mut announced: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (user, report) in expected.reports() {
            announced.entry(user).or_default().insert(&report.report_id);
        }
        let (mut forgotten, mut strangers) = (0, BTreeSet::new());
        let nothing = UserLog::default();
        let users: BTreeSet<&String> = expected.log.keys().chain(self.users.keys()).collect();
        for user in users {
            let found = self.users.get(user).unwrap_or(&nothing);
            let wanted = expected.log.get(user).map(Vec::as_slice).unwrap_or_default();
            if wanted.is_empty() {
                strangers.insert(user);
            }
            let is_cut = found.partitions.iter().any(|partition| self.truncated.contains(partition))
                || found.ids.is_empty() && !self.truncated.is_empty();
            let announced = announced.remove(user.as_str()).unwrap_or_default();
            let story = Story::of(found, straight);
            repeats.found += found.ids.len() - story.distinct();
            forgotten += story.check_events(wanted, &announced, is_cut, &mut events);
            story.check_verdicts(&announced, is_cut, &mut verdicts);
            order.expected += 1;
            order.found += 1;
            story.check_order(user, wanted, &mut order);
            if found.partitions.len() > 1 {
                order.differences.push(format!("{user} is in partitions {:?}", found.partitions));
            }
            for id in wanted.iter().map(|fact| fact.event_id.as_str()).filter(|id| straight.contains(id)) {
                if !is_cut && found.ids.iter().filter(|found| *found == id).count() < 2 {
                    repeats.differences.push(format!("{id} was written twice and is there once"));
                }
            }
        }
        if let Some(stranger) = strangers.first() {
            let n = strangers.len();
            events.differences.push(format!(
                "{n} users are not of this journal, like {stranger}: verify needs a platform that nobody else uses"
            ));
        }
        if forgotten > 0 {
            events.note = format!("equal; {forgotten} older ones are no longer kept by the broker");
        }
        vec![events, order, verdicts, repeats]
    }
}

/// One user's records, told apart.
struct Story<'a> {
    /// First occurrences of what is not repeated on purpose.
    first: Vec<&'a str>,
    all: HashSet<&'a str>,
}

impl<'a> Story<'a> {
    fn of(found: &'a UserLog, straight: &HashSet<&str>) -> Self {
        let mut all = HashSet::new();
        let fresh = found.ids.iter().map(String::as_str).filter(|id| all.insert(*id));
        let first = fresh.filter(|id| !straight.contains(id)).collect();
        Self { first, all }
    }

    fn distinct(&self) -> usize {
        self.all.len()
    }

    /// Returns how many are missing because the broker no longer keeps them: those before all that is there.
    fn check_events(&self, wanted: &[Fact], announced: &BTreeSet<&str>, is_cut: bool, row: &mut Row) -> usize {
        let is_there = |fact: &&Fact| self.all.contains(fact.event_id.as_str());
        let cut = if is_cut { wanted.iter().take_while(|fact| !is_there(fact)).count() } else { 0 };
        row.expected += wanted.len() - cut;
        row.found += wanted.iter().filter(is_there).count();
        for fact in wanted[cut..].iter().filter(|fact| !is_there(fact)) {
            row.differences.push(format!("{} ({} of {}) is missing", fact.event_id, fact.event_type, fact.user_id));
        }
        let ids: HashSet<&str> = wanted.iter().map(|fact| fact.event_id.as_str()).collect();
        let strange = self.all.iter().filter(|id| !ids.contains(**id) && !announced.contains(*id));
        // of users who are not of the journal at all, one line for all of them is enough
        for id in strange.filter(|_| !wanted.is_empty()) {
            row.found += 1;
            row.differences.push(format!("{id} of {} is not expected", wanted[0].user_id));
        }
        cut
    }

    fn check_verdicts(&self, announced: &BTreeSet<&str>, is_cut: bool, row: &mut Row) {
        for id in announced {
            let found = self.all.contains(id).then_some(());
            if found.is_some() || !is_cut {
                row.compare(id, Some(()), found);
            }
        }
    }

    fn check_order(&self, user: &str, wanted: &[Fact], row: &mut Row) {
        let places: HashMap<&str, usize> =
            wanted.iter().enumerate().map(|(place, fact)| (fact.event_id.as_str(), place)).collect();
        let found: Vec<usize> = self.first.iter().filter_map(|id| places.get(id).copied()).collect();
        if let Some(pair) = found.windows(2).find(|pair| pair[0] > pair[1]) {
            let (early, late) = (&wanted[pair[1]].event_id, &wanted[pair[0]].event_id);
            row.differences.push(format!("{user}: {early} was accepted before {late} and lies behind it"));
        }
    }
}

/// What each record must say.
struct Known {
    expected: Arc<Expected>,
    /// Id -> user and place among the user's events.
    events: HashMap<String, (String, usize)>,
    /// Id -> user, type and trigger's time.
    verdicts: HashMap<String, (String, &'static str, i64)>,
}

impl Known {
    fn of(expected: Arc<Expected>) -> Self {
        let facts =
            expected.log.iter().flat_map(|(user, facts)| facts.iter().enumerate().map(move |fact| (user, fact)));
        let events = facts.map(|(user, (place, fact))| (fact.event_id.clone(), (user.clone(), place))).collect();
        let verdicts = expected
            .reports()
            .map(|(user, report)| (report.report_id.clone(), (user.clone(), report.action, report.decided_at)));
        let verdicts = verdicts.collect();
        Self { expected, events, verdicts }
    }

    /// How the record differs from what was sent; an unknown one is judged elsewhere.
    fn alteration(&self, found: &Fact, key: &str) -> Option<String> {
        let id = &found.event_id;
        if key != found.user_id {
            return Some(format!("{id}: its key differs from its user"));
        }
        if let Some((user, place)) = self.events.get(id) {
            let wanted = &self.expected.log[user][*place];
            return (wanted != found).then(|| format!("{id}: expected {wanted:?}, found {found:?}"));
        }
        let (user, action, decided_at) = self.verdicts.get(id)?;
        let differs = (user.as_str(), *action, *decided_at) != (key, found.event_type.as_str(), found.occurred_at);
        differs.then(|| format!("{id}: expected {action} of {user}, found {found:?}"))
    }
}

#[cfg(test)]
mod tests {
    use headwater_proto::{Millis, v1::Payload};
    use headwater_stream::{Headers, Position};

    use super::*;
    use crate::{
        simulate::{Action, Parameters, Scenario, plan},
        verify::expected::{Rules, expected},
    };

    const RULES: Rules = Rules { session_timeout: 1_800_000, login_warning_threshold: 3 };

    fn traffic() -> Vec<Action> {
        plan(&Parameters { events: 400, seed: 3, scenarios: vec![Scenario::Takeover], late: 0.1, duplicates: 0.0 })
    }

    fn value(fact: &Fact) -> Vec<u8> {
        let payload = Payload {
            email: fact.email.clone(),
            ip: fact.ip.clone(),
            session_id: fact.session_id.clone(),
            ..Payload::default()
        };
        let envelope = EventEnvelope {
            event_id: fact.event_id.clone(),
            event_type: fact.event_type.clone(),
            aggregate_id: fact.user_id.clone(),
            occurred_at: Some(Millis::from_millis(fact.occurred_at).into()),
            payload: Some(payload),
            ..EventEnvelope::default()
        };
        envelope.encode_to_vec()
    }

    /// What is expected, as if the log held it in one partition, each user's verdicts behind the events.
    fn written(expected: &Expected) -> Vec<Fact> {
        let mut facts: Vec<Fact> = expected.log.values().flatten().filter(|fact| fact.failures == 0).cloned().collect();
        for (user, report) in expected.reports() {
            let (event_id, event_type) = (report.report_id.clone(), report.action.to_owned());
            let template = expected.log[user][0].clone();
            facts.push(Fact { event_id, event_type, occurred_at: report.decided_at, ..template });
        }
        facts
    }

    fn log(expected: &Arc<Expected>, facts: &[Fact], first_offset: i64) -> Log {
        let known = Known::of(expected.clone());
        let mut log = Log::default();
        for (fact, offset) in facts.iter().zip(first_offset..) {
            let (value, position) = (value(fact), Position { partition: 0, offset });
            let record = Record {
                topic: USER_EVENTS.name,
                position,
                timestamp: Some(0),
                key: Some(fact.user_id.as_bytes()),
                value: Some(&value),
                headers: Headers::Slice(&[]),
            };
            log.add(&record, Some(&known));
        }
        log
    }

    /// Expected but for failed logins, whose details `value` does not write.
    fn small() -> Arc<Expected> {
        let actions: Vec<_> = traffic().into_iter().filter(|a| a.event_type != "user.login_failed").collect();
        let actions: Vec<_> = actions.into_iter().filter(|a| !a.is_account_call()).collect();
        Arc::new(expected(&actions, RULES))
    }

    fn differences(log: Log, expected: &Expected, straight: &[&str]) -> Vec<(&'static str, String)> {
        let rows = log.rows(expected, &straight.iter().copied().collect());
        rows.into_iter().flat_map(|row| row.differences.into_iter().map(move |text| (row.what, text))).collect()
    }

    #[test]
    fn a_log_as_it_must_be_has_no_difference_and_each_fault_is_named() {
        let expected = small();
        let facts = written(&expected);
        assert!(expected.reports().count() > 3);
        assert_eq!(differences(log(&expected, &facts, 0), &expected, &[]), []);

        let of = |faulty: Vec<Fact>| differences(log(&expected, &faulty, 0), &expected, &[]);
        let id = facts[5].event_id.as_str();
        let mut lost = facts.clone();
        lost.remove(5);
        assert_eq!(
            of(lost),
            [("events on the log", format!("{id} ({} of {}) is missing", facts[5].event_type, facts[5].user_id))]
        );

        let mut altered = facts.clone();
        altered[5].ip = "192.0.2.1".into();
        let told = of(altered);
        assert!(told.len() == 1 && told[0].1.starts_with(&format!("{id}: expected Fact")), "{told:?}");

        let mut swapped = facts.clone();
        let next = (6..).find(|next| facts[*next].user_id == facts[5].user_id).unwrap();
        swapped.swap(5, next);
        let told = of(swapped);
        assert!(told.len() == 1 && told[0].0.contains("in order") && told[0].1.contains(id), "{told:?}");

        let mut invented = facts.clone();
        invented.push(Fact { event_id: "new".into(), ..facts[5].clone() });
        assert_eq!(of(invented), [("events on the log", format!("new of {} is not expected", facts[5].user_id))]);

        let mut without_verdict = facts.clone();
        let verdict = without_verdict.pop().unwrap();
        assert_eq!(of(without_verdict), [("verdicts on the log", format!("{} is missing", verdict.event_id))]);

        let mut stranger = facts.clone();
        stranger.push(Fact { event_id: "x".into(), user_id: "eve".into(), ..facts[5].clone() });
        let told = of(stranger);
        assert!(told.len() == 1 && told[0].1.contains("1 users are not of this journal, like eve"), "{told:?}");
    }

    #[test]
    fn a_repeat_on_purpose_must_be_there_and_one_by_accident_may() {
        let expected = small();
        let facts = written(&expected);
        let id = facts[5].event_id.as_str();
        let told = differences(log(&expected, &facts, 0), &expected, &[id]);
        assert_eq!(told, [("repeated records", format!("{id} was written twice and is there once"))]);
        let mut repeated = facts.clone();
        repeated.push(facts[5].clone());
        assert_eq!(differences(log(&expected, &repeated, 0), &expected, &[id]), []);
        assert_eq!(differences(log(&expected, &repeated, 0), &expected, &[]), []);
    }

    #[test]
    fn what_the_broker_no_longer_keeps_is_not_lost_but_a_hole_is() {
        let expected = small();
        let facts = written(&expected);
        assert_eq!(differences(log(&expected, &facts[30..], 30), &expected, &[]), []);
        let mut hole = facts[30..].to_vec();
        let lost = hole.remove(40);
        let told = differences(log(&expected, &hole, 30), &expected, &[]);
        assert!(told.len() == 1 && told[0].1.contains(&lost.event_id), "{told:?}");
        assert!(!differences(log(&expected, &facts[30..], 0), &expected, &[]).is_empty());
    }
}
