-- Reserved for a change made elsewhere at the same time; numbers have no gaps.
SELECT 1;
