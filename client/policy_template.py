"""The policy that a new site begins with."""

TEMPLATE = """\
# What this site lets be asked of it. Only you write this file: the coordinator cannot change it, and a plan that
# breaks a rule is refused. All rules have to stand here. These values are careful; loosen them knowingly.

privacy:
  # Refuse plans without differential privacy.
  required: true
  # The most that everything which ever leaves this site may cost together, and the most that one run may. At epsilon 1
  # the odds of any guess about one picture change by a factor of 2.7 at most, at 8 by 2,981.
  epsilon: 10.0
  epsilon_a_run: 8.0
  # Largest delta of a plan, and that of the epsilon above: well below one over the number of your pictures.
  delta: 1.0e-5
  # What is protected as one: record (a picture) allows plans for pictures and for people, subject (a person with all
  # pictures) allows plans for people alone.
  unit: record

aggregation:
  # Refuse plans that show the coordinator this site's own update.
  secure: true
  # Fewest sites that a sum may be over.
  smallest_cohort: 3
  # How many other sites may tell the coordinator all they know without it learning more of this one.
  colluders: 0
  # malicious: the coordinator may break the protocol. semi-honest trusts it to follow the protocol.
  profile: malicious

training:
  # Nets and losses that may be trained here, by their names; others are refused. These nets are small and were looked
  # at for private training. To admit another, add its name: fedfer models lists all, docs/losses.md the losses.
  models: [hog_linear, fer_nano, fer_small, fer_base]
  losses: [cross_entropy, focal, logit_adjusted, class_balanced]
  # Most passes over the training pictures in one run, and most hours that this machine works for one run.
  epochs: 1000.0
  hours: 48.0
  # Hours of the day, by this machine's clock, at which questions are answered, such as ["18:00-24:00", "00:00-07:00"].
  # At all others the site is away.
  times: ["00:00-24:00"]

statistics:
  # What may be counted: label_counts (training pictures by class), group_counts (by group and class), test_counts
  # (right and wrong answers on test pictures, by class and group), feature_sums (for steps after training), people_sums
  # (sums over the people on test pictures, from which an audit knows how sure its figures are), site_statistics
  # (tables of training pictures by class and group, before training).
  allowed: [label_counts, group_counts, test_counts, site_statistics]
  # The fewest pictures of this site that each of these may be over: training pictures, for test_counts and people_sums
  # test pictures; for site_statistics the fewest of one class in one group that may be counted by themselves. A site
  # that holds fewer than one of the allowed asks for takes part in nothing: fedfer site check says so.
  minimum_counts: {label_counts: 10, group_counts: 10, test_counts: 5, people_sums: 5, feature_sums: 10,
    site_statistics: 10}
  # The most that a plan may name as the fewest of site_statistics. The first plan whose tables carry no noise settles
  # that number for this site, as tables from another number on could tell the rest by subtraction; settled at a huge
  # number, no table would tell anything any more. What is settled stands in settled.json, beside this file.
  largest_minimum: 100
  # Groups with fewer test pictures than this are counted as undisclosed.
  smallest_group: 10
  # Whether plans may have test pictures counted without noise. Secure sums hide such counts of this site among others,
  # but two sums with nearly the same net, one over all sites and one over all others, tell them by subtraction, and
  # nobody can see that from here. false refuses plans without privacy.audit_epsilon.
  exact_test_counts: true
  # Whether figures of this site alone may be shown to the coordinator.
  by_site: false

coordinator:
  # Refuse plans that the coordinator of the study has not signed with the key whose fingerprint you compared.
  signed: true
  # Fingerprints of the coordinators whose study this site may join, each between quotation marks, as fedfer server
  # sites prints them. With [] it is whoever's fingerprint is compared at fedfer site join.
  keys: []
"""
"""The policy that ``fedfer site init`` writes; the values in it are the safe ones."""
