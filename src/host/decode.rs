//! Decoding by subtraction (Kosaian et al., "Parity Models", SOSP 2019).
//!
//! A parity model is trained so that its logits of a mean of images are the mean of the base's logits of each. With all
//! of them known but one, that one follows. For a linear network this is exact; for any other it is an approximation as
//! good as the parity model was trained.

/// The logits of the one member that is missing, which stands in the query `times` times: `K * parity` less the others'
/// logits, each as often as it stands there, over `times`. K, the slots of the query, is the sum of all these.
pub fn decode(parity: &[f32], times: usize, others: &[(usize, &[f32])]) -> Vec<f32> {
    let slots = times + others.iter().map(|(n, _)| n).sum::<usize>();
    let logit = |(class, &parity): (usize, &f32)| {
        // f64: the difference is small where the terms are large, and no sum of f32s overflows it.
        let known = |(n, logits): &(usize, &[f32])| {
            *n as f64 * logits.get(class).copied().map_or(0.0, f64::from)
        };
        let rest = slots as f64 * f64::from(parity) - others.iter().map(known).sum::<f64>();
        (rest / times.max(1) as f64) as f32
    };
    parity.iter().enumerate().map(logit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_of_a_mean_is_decoded_whatever_stands_in_it_how_often() {
        let logits = [[1.0, -2.0], [0.5, 8.0], [-3.0, 0.25]];
        for times in [[1, 1, 1], [2, 1, 1], [3, 0, 1]] {
            let slots: usize = times.iter().sum();
            let mean = |class: usize| {
                let sum: f32 = (0..3).map(|i| times[i] as f32 * logits[i][class]).sum();
                sum / slots as f32
            };
            let parity = [mean(0), mean(1)];
            for missing in (0..3).filter(|&i| times[i] > 0) {
                let others = (0..3).filter(|&i| i != missing);
                let others: Vec<_> = others.map(|i| (times[i], &logits[i][..])).collect();
                let found = decode(&parity, times[missing], &others);
                for (found, truth) in found.iter().zip(logits[missing]) {
                    assert!((found - truth).abs() < 1e-5, "{found} for {truth}");
                }
            }
        }
    }

    #[test]
    fn a_group_of_one_is_answered_by_the_parity_model_alone() {
        assert_eq!(decode(&[1.5, -2.5], 4, &[]), [1.5, -2.5]);
    }
}
