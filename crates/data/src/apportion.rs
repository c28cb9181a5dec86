//! Apportionment: how many rows each source gives to training and to the held-out split.

/// The rows of one source that apportionment starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    /// Rows it is to give to training; held-out rows are apportioned in this proportion.
    pub(crate) rows: u64,
    /// Rows it can give to the held-out split at most.
    pub(crate) most: u64,
}

/// Apportions `wanted` held-out rows by largest remainder. Every source that has rows gives at least one if `wanted` is
/// large enough.
pub(crate) fn apportion_held_out(wanted: u64, quotas: &[Quota]) -> Vec<u64> {
    let total: u128 = quotas.iter().map(|quota| u128::from(quota.rows)).sum();
    if total == 0 {
        return vec![0; quotas.len()];
    }
    let exact = |quota: &Quota| u128::from(wanted) * u128::from(quota.rows);
    let giving = quotas.iter().filter(|quota| quota.rows.min(quota.most) > 0).count() as u64;
    let at_least = u64::from(wanted >= giving);
    let mut given: Vec<u64> = quotas
        .iter()
        .map(|quota| {
            let floor = u64::try_from(exact(quota) / total).unwrap_or(u64::MAX);
            floor.max(at_least.min(quota.rows)).min(quota.most)
        })
        .collect();
    // How far a source is below its exact quota, in units of 1/total.
    let owed = |given: &[u64], index: usize| {
        exact(&quotas[index]).cast_signed() - (u128::from(given[index]) * total).cast_signed()
    };
    loop {
        let sum: u64 = given.iter().sum();
        let indices = 0..quotas.len();
        if sum < wanted {
            let able = indices.filter(|&index| given[index] < quotas[index].most && quotas[index].rows > 0);
            let Some(next) = able.max_by_key(|&index| (owed(&given, index), std::cmp::Reverse(index))) else {
                break;
            };
            given[next] += 1;
        } else if sum > wanted {
            let Some(next) = indices
                .filter(|&index| given[index] > 1)
                .min_by_key(|&index| owed(&given, index))
            else {
                break;
            };
            given[next] -= 1;
        } else {
            break;
        }
    }
    given
}

/// Apportions `missing` rows evenly among sources with these `available` rows.
pub(crate) fn apportion_rest(missing: u64, available: &[u64]) -> Vec<u64> {
    let mut given = vec![0; available.len()];
    let mut missing = missing;
    loop {
        let open: Vec<usize> = (0..available.len())
            .filter(|&index| given[index] < available[index])
            .collect();
        if missing == 0 || open.is_empty() {
            return given;
        }
        let each = (missing / open.len() as u64).max(1);
        for index in open {
            let more = each.min(available[index] - given[index]).min(missing);
            given[index] += more;
            missing -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quotas(rows: &[(u64, u64)]) -> Vec<Quota> {
        rows.iter().map(|&(rows, most)| Quota { rows, most }).collect()
    }

    #[test]
    fn held_out_rows_follow_the_mixture() {
        assert_eq!(
            apportion_held_out(10, &quotas(&[(700, 350), (200, 100), (100, 50)])),
            [7, 2, 1]
        );
        assert_eq!(
            apportion_held_out(10, &quotas(&[(9_999, 99), (1, 99), (0, 0)])),
            [9, 1, 0]
        );
        assert_eq!(apportion_held_out(10, &quotas(&[(900, 2), (100, 50)])), [2, 8]);
        assert_eq!(apportion_held_out(10, &quotas(&[(4, 2), (4, 2)])), [2, 2]);
        assert_eq!(apportion_held_out(1, &quotas(&[(5, 2), (6, 3)])), [0, 1]);
        assert_eq!(apportion_held_out(10, &quotas(&[(0, 0)])), [0]);
    }

    #[test]
    fn the_rest_is_apportioned_as_far_as_possible() {
        assert_eq!(apportion_rest(10, &[100, 100]), [5, 5]);
        assert_eq!(apportion_rest(10, &[2, 100]), [2, 8]);
        assert_eq!(apportion_rest(10, &[2, 3]), [2, 3]);
        assert_eq!(apportion_rest(3, &[9, 9]), [2, 1]);
    }

    proptest! {
        #[test]
        fn no_more_than_wanted_and_no_more_than_can_be_spared(
            wanted in 0u64..500,
            rows in proptest::collection::vec((0u64..100_000, 0u64..300), 0..6),
        ) {
            let quotas = quotas(&rows);
            let given = apportion_held_out(wanted, &quotas);
            prop_assert!(given.iter().sum::<u64>() <= wanted);
            prop_assert!(given.iter().zip(&quotas).all(|(given, quota)| *given <= quota.most));
        }
    }
}
